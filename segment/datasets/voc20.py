"""`voc20`: PASCAL VOC 2012 without its background."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.codes import IGNORE, mapped
from segment.datasets.facts import DatasetFacts
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk
from segment.datasets.voc_layout import IMAGES, MOVED, RAW, voc_listing, voc_miniature

# Value 0 and the void aren't scored, the rest moves down by one: mmsegmentation's reduce_zero_label.
WITHOUT_BACKGROUND = {0: IGNORE} | {label: label - 1 for label in range(1, 21)}


@DatasetFacts(classes=20, images=IMAGES, split="val", usual=(500, 375), miniature=voc_miniature)
def voc20(*, root: str | Path) -> OnDisk:
    """PASCAL VOC 2012 val, objects only: 20 classes, 1449 images; background and void are not scored."""
    return OnDisk(
        title="PASCAL VOC 2012 val, 20 classes",
        names=class_names("voc"),
        ignore=IGNORE,
        expected=IMAGES,
        listing=voc_listing(root, mapped(RAW, WITHOUT_BACKGROUND), mapped(MOVED, WITHOUT_BACKGROUND)),
    )
