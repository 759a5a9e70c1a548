"""Where Cityscapes val lies, and its label codes."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.arrangement import Arrangement, Listing, find
from segment.datasets.codes import Codes
from segment.datasets.facts import Miniature

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


def cityscapes_miniature(mini: Miniature) -> None:
    """An image of each of three cities, with the ids of the release."""
    for city, values in (("frankfurt", {0, 7, 33}), ("lindau", {4, 8, 9, 29, 31}), ("munster", {11, 24, 25, 26})):
        name = f"{city}/{city}_000000_000019"
        mini.image(f"leftImg8bit/val/{name}_leftImg8bit.png")
        mini.mask(f"gtFine/val/{name}_gtFine_labelIds.png", name, values)
