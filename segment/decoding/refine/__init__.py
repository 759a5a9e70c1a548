"""The registry of refiners, by name; a new one is a file and a line."""

from __future__ import annotations

from diagnostics.registry import Registry
from segment.decoding.refine.base import Canvas, NoRefiner, Refiner
from segment.decoding.refine.pamr import Pamr
from segment.decoding.refine.sam import Sam
from segment.decoding.refine.vote import Vote

__all__ = ["REFINERS", "Canvas", "Refiner"]

REFINERS: Registry[type[Refiner]] = Registry(
    "refiner", {"none": NoRefiner, "pamr": Pamr, "vote": Vote, "sam": Sam}, part=Refiner
)
