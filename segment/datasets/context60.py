"""`context60`: PASCAL Context with all but the 59 frequent classes as background."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segment.datasets.context_layout import CONVERTED, IMAGES, context_listing, context_miniature
from segment.datasets.facts import DatasetFacts
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk


@DatasetFacts(classes=60, images=IMAGES, split="val", usual=(500, 375), miniature=context_miniature)
def context60(*, root: str | Path, convention: Literal["usual", "cliptrase"] = "usual") -> OnDisk:
    """PASCAL Context val: background and 59 classes, 5104 images; every pixel is scored.

    `convention=cliptrase`: the background is class 59, the last. Source: leaves162/CLIPtrase 2b7de61.
    """
    names = class_names("context")
    if convention == "cliptrase":
        return OnDisk(
            title="PASCAL Context val, 59 classes and background last (CLIPtrase)",
            names=(*names, "background"),
            ignore=None,
            background=59,
            expected=IMAGES,
            listing=context_listing(root, {0: 59} | {label: label - 1 for label in range(1, 60)}),
        )
    return OnDisk(
        title="PASCAL Context val, background and 59 classes",
        names=("background", *names),
        ignore=None,
        background=0,
        expected=IMAGES,
        listing=context_listing(root, {}),
        converted=CONVERTED,
    )
