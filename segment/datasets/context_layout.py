"""Where PASCAL Context lies, in its several forms, and its label codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from segment.datasets.arrangement import Arrangement, Listing, find
from segment.datasets.codes import IGNORE_WIDE, Codes, as_they_are, mapped
from segment.datasets.facts import Miniature

# Source: the val list that mmsegmentation's script writes; the first release counts 5105.
IMAGES = 5104
BELOW = ("", "VOC2010", "VOCdevkit/VOC2010")
LISTS = ("ImageSets/SegmentationContext/val.txt", "pascalcontext_val.txt")
# Numbers that the 59 frequent classes have among the 459, in the order of their labels 1…59. Source: mmsegmentation,
# tools/dataset_converters/pascal_context.py.
# fmt: off
FREQUENT = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113, 115, 144, 158, 159,
    162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397,
    415, 416, 420, 424, 427, 440, 445, 454, 458,
)
# fmt: on
SIXTY = as_they_are("Context labels (0 background, 1…59 classes)", 60)
# Copies without the background: id - 1, 255 for the rest. Source: leaves162/CLIPtrase 2b7de61.
MOVED = Codes("labels moved down by one (255 background)", {k: k + 1 for k in range(59)} | {255: 0})
_OF_459 = {raw: label for label, raw in enumerate(FREQUENT, start=1)}
# Every class that is none of the frequent ones is background. That the labels of the .mat files give the same maps as
# the Detail API, which mmsegmentation's script asks, is our reading: both number the 459 classes alike.
ALL_TO_SIXTY = Codes("labels of the 459 classes (0 none)", {raw: _OF_459.get(raw, 0) for raw in range(460)})
MOVED_TO_SIXTY = Codes(
    "labels of the 459 classes moved down by one (65535 none)",
    {raw - 1: label for raw, label in ALL_TO_SIXTY.labels.items() if raw} | {IGNORE_WIDE: 0},
)

CONVERTED = Arrangement(
    images="JPEGImages", masks="SegmentationClassContext", codes=SIXTY, lists=LISTS, listed_by="list"
)


def arrangements_of_459(raw: Codes, moved: Codes) -> list[Arrangement]:
    """Label maps with all 459 classes: .mat as released, 16-bit PNG of the same values, .tif moved down by one.

    The .tif files are those of CAT-Seg's and MaskFormer's preparation, which holds the val images only.
    """
    png = Arrangement(images="JPEGImages", masks="trainval", codes=raw, lists=LISTS, listed_by="list")
    return [
        replace(png, mask_suffix=".mat", variable="LabelMap"),
        png,
        Arrangement(
            images="JPEGImages",
            masks="annotations_detectron2/pc459_val",
            codes=moved,
            mask_suffix=".tif",
            listed_by="masks",
        ),
    ]


def context_listing(root: str | Path, change: Mapping[int, int]) -> Listing:
    """The val list with labels 0 (background) and 1…59, changed by `change`; from whatever form is there."""
    forms = [
        CONVERTED,
        *arrangements_of_459(ALL_TO_SIXTY, MOVED_TO_SIXTY),
        Arrangement(images="pcontext/val/image", masks="pcontext/val/label", codes=MOVED),
    ]
    changed = [replace(form, codes=mapped(form.codes, change)) for form in forms]
    return find(root, changed, title="PASCAL Context", below=BELOW)


MINIATURE_IDS = ["2008_000002", "2008_000003", "2008_000007"]


def context_miniature(mini: Miniature) -> None:
    """Three images with the 60 labels of mmsegmentation's converter."""
    base = "VOCdevkit/VOC2010"
    for name, values in zip(MINIATURE_IDS, ({0, 1}, {0, 59}, {3, 17, 40}), strict=True):
        mini.image(f"{base}/JPEGImages/{name}.jpg")
        mini.mask(f"{base}/SegmentationClassContext/{name}.png", name, values)
    mini.lines(f"{base}/{LISTS[0]}", MINIATURE_IDS)
