"""`ade847`: the full ADE20K with the classes that are in both of its parts."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.arrangement import Arrangement, find
from segment.datasets.codes import IGNORE_WIDE, as_they_are
from segment.datasets.facts import DatasetFacts, Miniature
from segment.datasets.names import names_beside
from segment.datasets.on_disk import OnDisk

COUNT, IMAGES = 847, 2000
NAME_FILES = ("classes.txt", "ade847.json", "ade847.txt")


def miniature(mini: Miniature) -> None:
    """Three images with 16-bit label maps, and names beside them."""
    base = "ADE20K_2021_17_01"
    for number, values in enumerate(({0, 846, 65535}, {300, 301}, {5, 65535})):
        name = f"ADE_val_0000000{number + 1}"
        mini.image(f"{base}/images_detectron2/validation/{name}.jpg")
        mini.mask(f"{base}/annotations_detectron2/validation/{name}.tif", name, values)
    mini.lines(f"{base}/classes.txt", [f"thing {number}" for number in range(COUNT)])


@DatasetFacts(classes=COUNT, images=IMAGES, split="validation", usual=(683, 512), miniature=miniature)
def ade847(*, root: str | Path) -> OnDisk:
    """ADE20K full validation: 847 classes, 2000 images; other classes and unlabeled pixels are not scored.

    Read from the 16-bit .tif files of MaskFormer's and CAT-Seg's preparation; the class names from `classes.txt` (one a
    line) or CAT-Seg's `ade847.json`, which you put beside them: the release itself has them in a pickle of 3688.
    """
    listing = find(
        root,
        [
            Arrangement(
                images="images_detectron2/validation",
                masks="annotations_detectron2/validation",
                codes=as_they_are(
                    "labels of the 847 classes (65535 none)", COUNT, ignored=(65535,), ignore=IGNORE_WIDE
                ),
                mask_suffix=".tif",
            )
        ],
        title="ADE20K full (2021_17_01) as MaskFormer prepares it",
        below=("", "ADE20K_2021_17_01"),
    )
    return OnDisk(
        title="ADE20K full validation, 847 classes",
        names=names_beside(
            listing.base,
            NAME_FILES,
            count=COUNT,
            advice="Put a file classes.txt there with the 847 names in the order of the labels, one a line, or "
            "ade847.json of CAT-Seg (cvlab-kaist/CAT-Seg, datasets/ade847.json)",
        ),
        ignore=IGNORE_WIDE,
        expected=IMAGES,
        listing=listing,
    )
