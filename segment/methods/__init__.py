"""The registry of methods, by name; a new one is a file and a line."""

from __future__ import annotations

from segment.method import Methods
from segment.methods import (
    clearclip,
    clip,
    clip_surgery,
    cliptrase,
    cliptrase_paper,
    gem,
    gem_paper,
    lavg,
    maskclip,
    naclip,
    proxyclip,
    sc_clip,
    sc_clip_paper,
    sclip,
    sfp,
    sfp_paper,
)

__all__ = ["METHODS"]

METHODS = Methods(
    {
        "clip": clip.METHOD,
        "maskclip": maskclip.METHOD,
        "clip-surgery": clip_surgery.METHOD,
        "sclip": sclip.METHOD,
        "clearclip": clearclip.METHOD,
        "naclip": naclip.METHOD,
        "gem": gem.METHOD,
        "gem-paper": gem_paper.METHOD,
        "cliptrase": cliptrase.METHOD,
        "cliptrase-paper": cliptrase_paper.METHOD,
        "sc-clip": sc_clip.METHOD,
        "sc-clip-paper": sc_clip_paper.METHOD,
        "sfp": sfp.METHOD,
        "sfp-paper": sfp_paper.METHOD,
        "proxyclip": proxyclip.METHOD,
        "lavg": lavg.METHOD,
    }
)
