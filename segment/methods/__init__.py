"""The registry of methods, by name; a new one is a file and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostics.registry import Registry

if TYPE_CHECKING:
    from segment.method import Method

__all__ = ["METHODS"]

METHODS: Registry[Method] = Registry(
    "method",
    {
        "clip": "segment.methods.clip:METHOD",
        "maskclip": "segment.methods.maskclip:METHOD",
        "clip-surgery": "segment.methods.clip_surgery:METHOD",
        "sclip": "segment.methods.sclip:METHOD",
        "clearclip": "segment.methods.clearclip:METHOD",
        "naclip": "segment.methods.naclip:METHOD",
        "gem": "segment.methods.gem:METHOD",
        "gem-paper": "segment.methods.gem_paper:METHOD",
        "cliptrase": "segment.methods.cliptrase:METHOD",
        "cliptrase-paper": "segment.methods.cliptrase_paper:METHOD",
        "sc-clip": "segment.methods.sc_clip:METHOD",
        "sc-clip-paper": "segment.methods.sc_clip_paper:METHOD",
        "sfp": "segment.methods.sfp:METHOD",
        "sfp-paper": "segment.methods.sfp_paper:METHOD",
        "itaclip": "segment.methods.itaclip:METHOD",
        "resclip": "segment.methods.resclip:METHOD",
        "dih-clip": "segment.methods.dih_clip:METHOD",
        "pearl": "segment.methods.pearl:METHOD",
        "pearl-paper": "segment.methods.pearl_paper:METHOD",
        "registers": "segment.methods.registers:METHOD",
        "purify-first": "segment.methods.purify_first:METHOD",
        "proxyclip": "segment.methods.proxyclip:METHOD",
        "lavg": "segment.methods.lavg:METHOD",
    },
    group="methods",
)
