"""`coco-stuff-27`: the supercategories of COCO-Stuff, for methods without classes of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from segment.datasets.coco_layout import IMAGES, MINIATURE_IDS, coco_arrangements, coco_listing, coco_miniature
from segment.datasets.codes import IGNORE
from segment.datasets.facts import DatasetFacts, Miniature
from segment.datasets.names import class_names, coco_supercategories
from segment.datasets.on_disk import OnDisk

# The images on which PiCIE and STEGO score, and how many they are. Source: the lists of PiCIE
# (janghyuncho/PiCIE) and STEGO (mhamilton723/STEGO).
LISTS = ("curated/val2017/Coco164kFull_Stuff_Coarse_7.txt", "Coco164kFull_Stuff_Coarse_7.txt")
CURATED = 2175


def miniature(mini: Miniature) -> None:
    """COCO's three images, all of them on the list."""
    coco_miniature(mini)
    mini.lines(LISTS[0], MINIATURE_IDS)


@DatasetFacts(classes=27, images=CURATED, split="val2017", usual=(640, 480), miniature=miniature)
def coco_stuff_27(*, root: str | Path, images: Literal["curated", "all"] = "curated") -> OnDisk:
    """COCO-Stuff 164k val2017 merged: 27 classes, 2175 images of PiCIE's list; unlabeled is not scored.

    12 supercategories of things, then 15 of stuff, in the order of PiCIE and STEGO (arXiv:2103.17070, 2203.08414). The
    list is that of PiCIE, `curated/val2017/Coco164kFull_Stuff_Coarse_7.txt`; `images=all` takes all 5000.
    """
    groups = coco_supercategories()
    number = {name: place for place, names in enumerate(groups.values()) for name in names}
    fine = class_names("coco-things") + class_names("coco-stuff")
    merge = {label: number[name] for label, name in enumerate(fine)}
    curated = images == "curated"
    arrangements = coco_arrangements(merge, lists=LISTS if curated else ())
    return OnDisk(
        title=f"COCO-Stuff 164k val2017, 27 supercategories, {images} images",
        names=tuple(groups),
        ignore=IGNORE,
        expected=CURATED if curated else IMAGES,
        listing=coco_listing(
            root, arrangements, title="COCO-Stuff 164k with PiCIE's list" if curated else "COCO-Stuff"
        ),
    )
