"""The registry of refiners, by name; a new one is a file and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry

if TYPE_CHECKING:
    from segment.decoding.refine.base import Canvas, Refiner

__all__ = ["REFINERS", "Canvas", "Refiner"]

__getattr__, __dir__ = lazy_names(__name__, {"segment.decoding.refine.base": ("Canvas", "Refiner")})

REFINERS: Registry[type[Refiner]] = Registry(
    "refiner",
    {
        "none": "segment.decoding.refine.base:NoRefiner",
        "pamr": "segment.decoding.refine.pamr:Pamr",
        "tlp": "segment.decoding.refine.tlp:Tlp",
        "vote": "segment.decoding.refine.vote:Vote",
        "sam": "segment.decoding.refine.sam:SamRefiner",
    },
    group="refiners",
    part="segment.decoding.refine.base:Refiner",
)
