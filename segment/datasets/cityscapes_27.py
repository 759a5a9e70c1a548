"""`cityscapes-27`: streets with finer classes, for methods without classes of their own."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.cityscapes_layout import IMAGES, cityscapes_arrangement, cityscapes_listing, cityscapes_miniature
from segment.datasets.codes import IGNORE, Codes
from segment.datasets.facts import DatasetFacts
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk

FIRST, COUNT = 7, 27
RAW = Codes(
    "Cityscapes ids",
    dict.fromkeys((*range(34), 255), IGNORE) | {FIRST + label: label for label in range(COUNT)},
)


@DatasetFacts(classes=COUNT, images=IMAGES, split="val", usual=(2048, 1024), miniature=cityscapes_miniature)
def cityscapes_27(*, root: str | Path) -> OnDisk:
    """Cityscapes fine val with ids 7 to 33: 27 classes, 500 images; ids below are not scored.

    As PiCIE and STEGO score it (arXiv:2103.17070, 2203.08414). Read from `*_gtFine_labelIds.png`; the train ids can't
    serve, since they don't tell the eight further classes.
    """
    return OnDisk(
        title="Cityscapes val, 27 classes",
        names=class_names("cityscapes-27"),
        ignore=IGNORE,
        expected=IMAGES,
        listing=cityscapes_listing(root, [cityscapes_arrangement("labelIds", RAW)]),
    )
