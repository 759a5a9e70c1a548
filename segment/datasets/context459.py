"""`context459`: PASCAL Context with all its classes."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.arrangement import find
from segment.datasets.codes import IGNORE_WIDE, as_they_are, one_less
from segment.datasets.context_layout import BELOW, IMAGES, LISTS, MINIATURE_IDS, arrangements_of_459
from segment.datasets.facts import DatasetFacts, Miniature
from segment.datasets.names import names_beside
from segment.datasets.on_disk import OnDisk

COUNT = 459
NAME_FILES = ("labels.txt", "trainval/labels.txt", "pc459.json", "classes.txt")


def miniature(mini: Miniature) -> None:
    """Three images with the release's .mat files, and names beside them."""
    for name, values in zip(MINIATURE_IDS, ({0, 1, 2}, {9, 458, 459}, {23, 31, 300}), strict=True):
        mini.image(f"JPEGImages/{name}.jpg")
        mini.mask(f"trainval/{name}.mat", name, values, variable="LabelMap")
    mini.lines(LISTS[0], MINIATURE_IDS)
    mini.lines("labels.txt", [f"{number}: thing {number}" for number in range(1, COUNT + 1)])


@DatasetFacts(classes=COUNT, images=IMAGES, split="val", usual=(500, 375), miniature=miniature)
def context459(*, root: str | Path) -> OnDisk:
    """PASCAL Context val with every class: 459 classes, 5104 images; unlabeled pixels are not scored.

    Their names are read from `labels.txt`, which comes with the annotations («1: accordion», …), from `pc459.json` (a
    list) or `classes.txt`, beside JPEGImages.
    """
    listing = find(
        root,
        arrangements_of_459(
            one_less("labels of the 459 classes (0 none)", COUNT, ignore=IGNORE_WIDE),
            as_they_are("labels of the 459 classes moved down by one", COUNT, ignored=(65535,), ignore=IGNORE_WIDE),
        ),
        title="PASCAL Context with 459 classes",
        below=BELOW,
    )
    return OnDisk(
        title="PASCAL Context val, 459 classes",
        names=names_beside(
            listing.base,
            NAME_FILES,
            count=COUNT,
            advice="Put labels.txt of the PASCAL Context annotations (459 lines, «1: accordion» …) there",
        ),
        ignore=IGNORE_WIDE,
        expected=IMAGES,
        listing=listing,
    )
