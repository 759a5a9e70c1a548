"""Miniatures: each data set as it lies on disk, with three small images and label maps of known values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

SIZE = (6, 8)


class Miniature:
    """Writes a data set below `root`; `raw` keeps the values of each label map by the sample's name."""

    def __init__(self, root: Path) -> None:
        self.root, self.raw = root, {}
        self._random = np.random.default_rng(0)

    def image(self, place: str) -> Path:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self._random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)
        return path

    def mask(self, place: str, name: str, values, *, variable: str = "", extra: dict | None = None) -> Path:
        """A map in which each of `values` occurs; 8 or 16 bit by the suffix and the values."""
        values = np.array(sorted(values))
        raw = self._random.permutation(np.resize(values, SIZE[0] * SIZE[1])).reshape(SIZE)
        self.raw[name] = raw
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        if variable:
            scipy.io.savemat(path, {variable: raw.astype(np.uint16), "captions": "none"})
        else:
            Image.fromarray(raw.astype(np.uint16 if path.suffix == ".tif" or raw.max() > 255 else np.uint8)).save(path)
        return path

    def lines(self, place: str, lines) -> Path:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return path


def voc(mini: Miniature) -> None:
    base = "VOCdevkit/VOC2012"
    ids = ["2007_000033", "2007_000042", "2007_000061"]
    for name, values in zip(ids, ({0, 1, 255}, {0, 20, 255}, {0, 7, 15}), strict=True):
        mini.image(f"{base}/JPEGImages/{name}.jpg")
        mini.mask(f"{base}/SegmentationClass/{name}.png", name, values)
    mini.image(f"{base}/JPEGImages/2007_000032.jpg")  # of the training part: no sample
    mini.lines(f"{base}/ImageSets/Segmentation/val.txt", ids)


CONTEXT_IDS = ["2008_000002", "2008_000003", "2008_000007"]


def context(mini: Miniature) -> None:
    for name, values in zip(CONTEXT_IDS, ({0, 1}, {0, 59}, {3, 17, 40}), strict=True):
        mini.image(f"VOCdevkit/VOC2010/JPEGImages/{name}.jpg")
        mini.mask(f"VOCdevkit/VOC2010/SegmentationClassContext/{name}.png", name, values)
    mini.lines("VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt", CONTEXT_IDS)


def context_mat(mini: Miniature) -> None:
    for name, values in zip(CONTEXT_IDS, ({0, 1, 2}, {9, 458, 459}, {23, 31, 300}), strict=True):
        mini.image(f"JPEGImages/{name}.jpg")
        mini.mask(f"trainval/{name}.mat", name, values, variable="LabelMap")
    mini.lines("ImageSets/SegmentationContext/val.txt", CONTEXT_IDS)
    mini.lines("labels.txt", [f"{number}: thing {number}" for number in range(1, 460)])


COCO_IDS = ["000000000139", "000000000285", "000000000632"]
COCO_VALUES = ({0, 89, 91, 255}, {10, 12, 181}, {79, 90 + 2, 255})


def coco(mini: Miniature) -> None:
    for name, values in zip(COCO_IDS, COCO_VALUES, strict=True):
        mini.image(f"images/val2017/{name}.jpg")
        mini.mask(f"annotations/val2017/{name}.png", name, values)


def coco_27(mini: Miniature) -> None:
    coco(mini)
    mini.lines("curated/val2017/Coco164kFull_Stuff_Coarse_7.txt", COCO_IDS)


def coco_10k(mini: Miniature) -> None:
    for number, values in enumerate(({0, 1, 171}, {80, 81}, {2, 100})):
        name = f"COCO_train2014_00000000007{number}"
        mini.image(f"images/test2014/{name}.jpg")
        mini.mask(f"annotations/test2014/{name}_labelTrainIds.png", name, values)


def ade(mini: Miniature) -> None:
    for number, values in enumerate(({0, 1, 150}, {2, 13}, {0, 77})):
        name = f"ADE_val_0000000{number + 1}"
        mini.image(f"ADEChallengeData2016/images/validation/{name}.jpg")
        mini.mask(f"ADEChallengeData2016/annotations/validation/{name}.png", name, values)


def ade_full(mini: Miniature) -> None:
    for number, values in enumerate(({0, 846, 65535}, {300, 301}, {5, 65535})):
        name = f"ADE_val_0000000{number + 1}"
        mini.image(f"ADE20K_2021_17_01/images_detectron2/validation/{name}.jpg")
        mini.mask(f"ADE20K_2021_17_01/annotations_detectron2/validation/{name}.tif", name, values)
    mini.lines("ADE20K_2021_17_01/classes.txt", [f"thing {number}" for number in range(847)])


def cityscapes(mini: Miniature) -> None:
    for city, values in (("frankfurt", {0, 7, 33}), ("lindau", {4, 8, 9, 29, 31}), ("munster", {11, 24, 25, 26})):
        name = f"{city}/{city}_000000_000019"
        mini.image(f"leftImg8bit/val/{name}_leftImg8bit.png")
        mini.mask(f"gtFine/val/{name}_gtFine_labelIds.png", name, values)


def camvid(mini: Miniature) -> None:
    for number, values in enumerate(({0, 10, 11}, {1, 2, 3}, {4, 5, 6, 7, 8, 9})):
        name = f"0001TP_00855{number}"
        mini.image(f"CamVid/test/{name}.png")
        mini.mask(f"CamVid/testannot/{name}.png", name, values)


def folder(mini: Miniature) -> None:
    for name, values in (("a", {0, 1, 2}), ("b/c", {2, 255}), ("d", {0})):
        mini.image(f"images/{name}.jpg")
        mini.mask(f"masks/{name}.png", name, values)
    mini.lines("classes.txt", ["cat, kitten", "dog", "grass"])


MINIATURES: dict[str, Callable[[Miniature], None]] = {
    "voc20": voc,
    "voc21": voc,
    "context59": context,
    "context60": context,
    "context459": context_mat,
    "coco-object": coco,
    "coco-stuff": coco,
    "coco-stuff-10k": coco_10k,
    "coco-stuff-27": coco_27,
    "ade150": ade,
    "ade847": ade_full,
    "cityscapes": cityscapes,
    "cityscapes-27": cityscapes,
    "camvid": camvid,
    "folder": folder,
}


@pytest.fixture
def empty(tmp_path) -> Miniature:
    """A root without anything in it, and the means to fill it."""
    (tmp_path / "root").mkdir()
    return Miniature(tmp_path / "root")


@pytest.fixture
def miniature(empty) -> Callable[[str], Miniature]:
    """Data set name -> its miniature, written; of PASCAL Context, `context-mat` is the other form."""

    def write(name: str) -> Miniature:
        ({**MINIATURES, "context-mat": context_mat}[name])(empty)
        return empty

    return write
