"""Where Cityscapes val lies, and its label codes."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.arrangement import Arrangement, Listing, find
from segment.datasets.codes import Codes

IMAGES = 500


def cityscapes_arrangement(mask_suffix: str, codes: Codes) -> Arrangement:
    """leftImg8bit and gtFine, a folder for each city."""
    return Arrangement(
        images="leftImg8bit/val",
        masks="gtFine/val",
        image_suffix="_leftImg8bit.png",
        mask_suffix=f"_gtFine_{mask_suffix}.png",
        codes=codes,
        deep=True,
    )


def cityscapes_listing(root: str | Path, arrangements: list[Arrangement]) -> Listing:
    """The val part below `root` or its folder cityscapes."""
    return find(root, arrangements, title="Cityscapes", below=("", "cityscapes"))
