"""Parts that tests register at run time; in a module of its own, so that other processes can import them."""

from __future__ import annotations

from dataclasses import replace

from segment.datasets.shapes import Shapes
from segment.methods import METHODS

ALIKE = replace(METHODS["clearclip"], summary="ClearCLIP under another name", spec="")


def two_scenes() -> Shapes:
    """Two small scenes."""
    return Shapes(scenes=2, height=48, width=64)
