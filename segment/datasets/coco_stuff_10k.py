"""`coco-stuff-10k`: the first release of COCO-Stuff."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from segment.datasets.arrangement import Arrangement, find
from segment.datasets.coco_layout import STUFF, THINGS, USED
from segment.datasets.codes import IGNORE, Codes, one_less
from segment.datasets.facts import DatasetFacts, Miniature
from segment.datasets.names import class_names
from segment.datasets.on_disk import OnDisk

COUNT, IMAGES = THINGS + STUFF, 1000
LISTS = ("imageLists/test.txt", "imagesLists/test.txt")
# The released .mat files hold category ids, so one more than the PNG files of 164k, and 0 for unlabeled. Source:
# mmsegmentation, tools/dataset_converters/coco_stuff10k.py.
IDS = Codes("COCO category ids (0 unlabeled)", {raw + 1: label for label, raw in enumerate(USED)} | {0: IGNORE})


def miniature(mini: Miniature) -> None:
    """Three images with labels from 1 on."""
    for number, values in enumerate(({0, 1, 171}, {80, 81}, {2, 100})):
        name = f"COCO_train2014_00000000007{number}"
        mini.image(f"images/test2014/{name}.jpg")
        mini.mask(f"annotations/test2014/{name}_labelTrainIds.png", name, values)


@DatasetFacts(classes=COUNT, images=IMAGES, split="test", usual=(640, 480), miniature=miniature)
def coco_stuff_10k(*, root: str | Path) -> OnDisk:
    """COCO-Stuff 10k test: 80 things, then 91 stuffs, 171 classes, 1000 images; unlabeled is not scored.

    Read from `*_labelTrainIds.png` or `*.png` with 1…171 (0 unlabeled), or from the released .mat files.
    """
    codes = one_less("COCO-Stuff 10k labels (0 unlabeled, 1…171 classes)", COUNT)
    prepared = Arrangement(images="images/test2014", masks="annotations/test2014", codes=codes)
    released = replace(prepared, codes=IDS, mask_suffix=".mat", variable="S")
    arrangements = [
        replace(prepared, mask_suffix="_labelTrainIds.png"),
        prepared,
        released,
        replace(released, images="images", masks="annotations", lists=LISTS, listed_by="list"),
    ]
    return OnDisk(
        title="COCO-Stuff 10k test, 171 classes",
        names=class_names("coco-things") + class_names("coco-stuff"),
        ignore=IGNORE,
        expected=IMAGES,
        listing=find(root, arrangements, title="COCO-Stuff 10k", below=("", "coco_stuff10k", "cocostuff-10k-v1.1")),
    )
