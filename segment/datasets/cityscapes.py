"""`cityscapes`: streets, with the 19 classes of its benchmark."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.cityscapes_layout import IMAGES, cityscapes_arrangement, cityscapes_listing, cityscapes_miniature
from segment.datasets.codes import IGNORE, Codes, as_they_are
from segment.datasets.facts import DatasetFacts
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk

# Ids of the 19 classes in the order of their labels. Source: cityscapesScripts, helpers/labels.py.
IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
RAW = Codes(
    "Cityscapes ids",
    {**dict.fromkeys((*range(34), 255), IGNORE), **{raw: label for label, raw in enumerate(IDS)}},
)
TRAIN_IDS = as_they_are("the 19 train ids of Cityscapes (255 not scored)", len(IDS), ignored=(255,))


@DatasetFacts(classes=19, images=IMAGES, split="val", usual=(2048, 1024), miniature=cityscapes_miniature)
def cityscapes(*, root: str | Path) -> OnDisk:
    """Cityscapes fine val: 19 classes, 500 images; the other ids are not scored.

    Read from `*_gtFine_labelTrainIds.png`, or made on the fly from the released `*_gtFine_labelIds.png`.
    """
    arrangements = [cityscapes_arrangement("labelTrainIds", TRAIN_IDS), cityscapes_arrangement("labelIds", RAW)]
    return OnDisk(
        title="Cityscapes val, 19 classes",
        names=class_names("cityscapes"),
        ignore=IGNORE,
        expected=IMAGES,
        listing=cityscapes_listing(root, arrangements),
        converted=arrangements[0],
    )
