"""Where COCO val2017 lies with its stuff-and-thing label maps, and their codes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segment.datasets.arrangement import Arrangement, Listing, find
from segment.datasets.codes import IGNORE, Codes, as_they_are, mapped
from segment.datasets.facts import Miniature

# Source: COCO 2017, val.
IMAGES = 5000
THINGS, STUFF = 80, 91
# The label maps of COCO-Stuff hold category id - 1, in 0…181; these 11 ids belong to no class. Source: nightrome/
# cocostuff, labels.md; mmsegmentation, tools/dataset_converters/coco_stuff164k.py.
UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
USED = tuple(raw for raw in range(182) if raw not in UNUSED)
RAW = Codes(
    "category id - 1 of COCO-Stuff (255 unlabeled)", {raw: label for label, raw in enumerate(USED)} | {IGNORE: IGNORE}
)
TRAIN_IDS = as_they_are("the 171 labels of COCO-Stuff (255 unlabeled)", THINGS + STUFF, ignored=(IGNORE,))

# As mmsegmentation's converter leaves them, and as the archives unpack.
IMAGE_PLACES = ("images/val2017", "val2017")
MASK_PLACES = ("annotations/val2017", "stuffthingmaps/val2017")


def coco_arrangements(
    change: Mapping[int, int], *, lists: tuple[str, ...] = (), first: tuple[tuple[str, Codes], ...] = ()
) -> list[Arrangement]:
    """The forms of label maps, with the 171 labels changed by `change`: `first`, those with 171 labels, the raw ones.

    `first` are ends of file names with their codes, which `change` does not touch.
    """
    forms = [
        *first,
        ("_labelTrainIds.png", mapped(TRAIN_IDS, change)),
        (".png", mapped(RAW, change)),
    ]
    return [
        Arrangement(
            images=images,
            masks=masks,
            codes=codes,
            mask_suffix=suffix,
            lists=lists,
            listed_by="list" if lists else "images",
        )
        for suffix, codes in forms
        for images in IMAGE_PLACES
        for masks in MASK_PLACES
    ]


def coco_listing(root: str | Path, arrangements: list[Arrangement], *, title: str) -> Listing:
    """The label maps that are there, of val2017."""
    return find(root, arrangements, title=title, below=("", "coco_stuff164k", "coco"))


MINIATURE_IDS = ["000000000139", "000000000285", "000000000632"]


def coco_miniature(mini: Miniature) -> None:
    """Three images with the released label maps, whose values are category ids less one."""
    for name, values in zip(MINIATURE_IDS, ({0, 89, 91, 255}, {10, 12, 181}, {79, 92, 255}), strict=True):
        mini.image(f"images/val2017/{name}.jpg")
        mini.mask(f"annotations/val2017/{name}.png", name, values)
