"""`coco-object`: the 80 things of COCO, and everything else as background."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segment.datasets.coco_layout import IMAGES, STUFF, THINGS, coco_arrangements, coco_listing, coco_miniature
from segment.datasets.codes import IGNORE, as_they_are
from segment.datasets.facts import DatasetFacts
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk

CLASSES = THINGS + STUFF
# Source: GroupViT's converter (datasets/cvt_coco_object.py, which SCLIP and the others ship): things move up by one,
# stuff becomes 0, and so do unlabeled pixels.
GROUPVIT = {label: label + 1 if label < THINGS else 0 for label in range(CLASSES)} | {IGNORE: 0}
# Source: leaves162/CLIPtrase 2b7de61. Its maps are those of 171 classes; only the unlabeled become class 80, where
# «banner» is already, and stuffs from 81 on lie outside of what its metric counts.
CLIPTRASE = dict.fromkeys(range(THINGS + 1, CLASSES), IGNORE) | {IGNORE: THINGS}


@DatasetFacts(classes=THINGS + 1, images=IMAGES, split="val2017", usual=(640, 480), miniature=coco_miniature)
def coco_object(*, root: str | Path, convention: Literal["usual", "cliptrase"] = "usual") -> OnDisk:
    """COCO-Object val2017: background and 80 things, 5000 images; every pixel is scored, unlabeled as background.

    Read from `*_instanceTrainIds.png`, or made on the fly from the label maps of COCO-Stuff.
    `convention=cliptrase`: the background is class 80, the last, and consists of unlabeled pixels and the stuff
    «banner» alone; all other stuff is not scored. Numbers of the two conventions can't be compared.
    """
    things = class_names("coco-things")
    if convention == "cliptrase":
        return OnDisk(
            title="COCO val2017, 80 things and background last (CLIPtrase)",
            names=(*things, "background"),
            ignore=IGNORE,
            background=THINGS,
            expected=IMAGES,
            listing=coco_listing(root, coco_arrangements(CLIPTRASE), title="COCO-Stuff 164k"),
        )
    whole = as_they_are("COCO-Object labels (0 background, 1…80 things)", THINGS + 1)
    arrangements = coco_arrangements(GROUPVIT, first=(("_instanceTrainIds.png", whole),))
    return OnDisk(
        title="COCO-Object val2017, background and 80 things",
        names=("background", *things),
        ignore=None,
        background=0,
        expected=IMAGES,
        listing=coco_listing(root, arrangements, title="COCO-Object (or COCO-Stuff 164k)"),
        converted=arrangements[0],
    )
