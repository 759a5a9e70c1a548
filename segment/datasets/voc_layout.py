"""Where the segmentation part of PASCAL VOC 2012 lies, and its label codes."""

from __future__ import annotations

from pathlib import Path

from segment.datasets.arrangement import Arrangement, Listing, find
from segment.datasets.codes import Codes, as_they_are
from segment.datasets.facts import Miniature

# Source: VOCtrainval_11-May-2012, ImageSets/Segmentation/val.txt.
IMAGES = 1449
RAW = as_they_are("VOC labels (0 background, 1…20 classes, 255 void)", 21, ignored=(255,))
# The copies that detectron2-style preparation writes: id - 1, with background and void both 255. Source:
# leaves162/CLIPtrase 2b7de61.
MOVED = Codes("labels moved down by one (255 background and void)", {k: k + 1 for k in range(20)} | {255: 0})


def voc_listing(root: str | Path, raw: Codes, moved: Codes | None = None) -> Listing:
    """The 2012 val list under VOCdevkit/VOC2012 or given directly; `moved` are the codes of detectron2-style copies."""
    listed = ("ImageSets/Segmentation/val.txt",)
    arrangements = [
        Arrangement(images="JPEGImages", masks=masks, codes=raw, lists=listed, listed_by="list")
        for masks in ("SegmentationClass", "SegmentationClassAug")
    ]
    if moved is not None:
        arrangements.append(
            Arrangement(images="images_detectron2/val", masks="annotations_detectron2/val", codes=moved)
        )
    return find(root, arrangements, title="PASCAL VOC 2012", below=("", "VOC2012", "VOCdevkit/VOC2012"))


def voc_miniature(mini: Miniature) -> None:
    """Three images of the val list, and one of the training part, which is no sample."""
    base = "VOCdevkit/VOC2012"
    ids = ["2007_000033", "2007_000042", "2007_000061"]
    for name, values in zip(ids, ({0, 1, 255}, {0, 20, 255}, {0, 7, 15}), strict=True):
        mini.image(f"{base}/JPEGImages/{name}.jpg")
        mini.mask(f"{base}/SegmentationClass/{name}.png", name, values)
    mini.image(f"{base}/JPEGImages/2007_000032.jpg")
    mini.lines(f"{base}/ImageSets/Segmentation/val.txt", ids)
