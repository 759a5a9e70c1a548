"""`voc21`: PASCAL VOC 2012 with its background."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segment.datasets.codes import IGNORE, mapped
from segment.datasets.facts import DatasetFacts
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk
from segment.datasets.voc_layout import IMAGES, MOVED, RAW, voc_listing, voc_miniature

# Source: leaves162/CLIPtrase 2b7de61. Background and void become one class behind the others.
CLIPTRASE = {0: 20, IGNORE: 20} | {label: label - 1 for label in range(1, 21)}


@DatasetFacts(classes=21, images=IMAGES, split="val", usual=(500, 375), miniature=voc_miniature)
def voc21(*, root: str | Path, convention: Literal["usual", "cliptrase"] = "usual") -> OnDisk:
    """PASCAL VOC 2012 val: background and 20 classes, 1449 images; void is not scored.

    `convention=cliptrase`: the background is class 20, the last, and void pixels count as background; nothing is left
    out. Numbers of the two conventions can't be compared.
    """
    if convention == "cliptrase":
        return OnDisk(
            title="PASCAL VOC 2012 val, 20 classes and background last (CLIPtrase)",
            names=(*class_names("voc"), "background"),
            ignore=None,
            background=20,
            expected=IMAGES,
            listing=voc_listing(root, mapped(RAW, CLIPTRASE), mapped(MOVED, CLIPTRASE)),
        )
    return OnDisk(
        title="PASCAL VOC 2012 val, background and 20 classes",
        names=("background", *class_names("voc")),
        ignore=IGNORE,
        background=0,
        expected=IMAGES,
        listing=voc_listing(root, RAW),
    )
