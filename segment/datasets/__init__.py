"""The registry of data sets, by name; a new one is a file and a line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

from diagnostics.registry import Registry, parse_spec
from segment.datasets.ade150 import ade150
from segment.datasets.ade847 import ade847
from segment.datasets.arrangement import DatasetError
from segment.datasets.base import Dataset, Sample
from segment.datasets.camvid import camvid
from segment.datasets.cityscapes import cityscapes
from segment.datasets.cityscapes_27 import cityscapes_27
from segment.datasets.coco_object import coco_object
from segment.datasets.coco_stuff import coco_stuff
from segment.datasets.coco_stuff_10k import coco_stuff_10k
from segment.datasets.coco_stuff_27 import coco_stuff_27
from segment.datasets.context59 import context59
from segment.datasets.context60 import context60
from segment.datasets.context459 import context459
from segment.datasets.folder import folder
from segment.datasets.on_disk import OnDisk
from segment.datasets.shapes import Shapes, shapes_objects
from segment.datasets.voc20 import voc20
from segment.datasets.voc21 import voc21

__all__ = ["DATASETS", "Dataset", "DatasetError", "OnDisk", "Sample", "needs_root", "open_dataset"]

DATASETS: Registry[Callable[..., Dataset]] = Registry(
    "data set",
    {
        "shapes": Shapes,
        "shapes-objects": shapes_objects,
        "voc20": voc20,
        "voc21": voc21,
        "context59": context59,
        "context60": context60,
        "context459": context459,
        "coco-object": coco_object,
        "coco-stuff": coco_stuff,
        "coco-stuff-10k": coco_stuff_10k,
        "coco-stuff-27": coco_stuff_27,
        "ade150": ade150,
        "ade847": ade847,
        "cityscapes": cityscapes,
        "cityscapes-27": cityscapes_27,
        "camvid": camvid,
        "folder": folder,
    },
)


def needs_root(name: str) -> bool:
    """Whether the data set `name` lies on disk, and so takes a root."""
    return "root" in inspect.signature(DATASETS[name]).parameters


def open_dataset(spec: str, root: str | Path | None = None) -> Dataset:
    """The data set that a spec names, such as `voc21` or `coco-object:convention=cliptrase`, below `root`.

    ValueError for a data set on disk without a root, and for a drawn one with.
    """
    name, fields = parse_spec(spec)
    if not needs_root(name):
        if root is not None:
            raise ValueError(f"`{name}` is drawn, not read: it takes no root. Leave `--root {root}` out.")
        return DATASETS.build(spec)
    if "root" in fields:
        raise ValueError(f"give the root of `{name}` by itself, not in the spec: --root {fields['root']}.")
    if root is None:
        raise ValueError(f"`{name}` lies on disk: say where, with --root FOLDER. See `outliers datasets list`.")
    return DATASETS.build(spec, root=Path(root))
