"""`coco-stuff`: COCO-Stuff 164k, things before stuff."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.coco_layout import IMAGES, coco_arrangements, coco_listing, coco_miniature
from segment.datasets.codes import IGNORE
from segment.datasets.facts import DatasetFacts
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk


@DatasetFacts(classes=171, images=IMAGES, split="val2017", usual=(640, 480), miniature=coco_miniature)
def coco_stuff(*, root: str | Path) -> OnDisk:
    """COCO-Stuff 164k val2017: 80 things, then 91 stuffs, 171 classes, 5000 images; unlabeled is not scored.

    Read from `*_labelTrainIds.png`, or from the released stuffthingmaps, whose values are moved together on the fly.
    """
    arrangements = coco_arrangements({})
    return OnDisk(
        title="COCO-Stuff 164k val2017, 171 classes",
        names=class_names("coco-things") + class_names("coco-stuff"),
        ignore=IGNORE,
        expected=IMAGES,
        listing=coco_listing(root, arrangements, title="COCO-Stuff 164k"),
        converted=arrangements[0],
    )
