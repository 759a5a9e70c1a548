"""The registry of data sets, by name; a new one is a file and a line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry, parse_spec

if TYPE_CHECKING:
    from segment.datasets.arrangement import DatasetError
    from segment.datasets.base import Dataset, Sample
    from segment.datasets.on_disk import OnDisk

__all__ = ["DATASETS", "Dataset", "DatasetError", "OnDisk", "Sample", "needs_root", "open_dataset"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "segment.datasets.arrangement": ("DatasetError",),
        "segment.datasets.base": (
            "Dataset",
            "Sample",
        ),
        "segment.datasets.on_disk": ("OnDisk",),
    },
)

DATASETS: Registry[Callable[..., Dataset]] = Registry(
    "data set",
    {
        "shapes": "segment.datasets.shapes:Shapes",
        "shapes-objects": "segment.datasets.shapes:shapes_objects",
        "voc20": "segment.datasets.voc20:voc20",
        "voc21": "segment.datasets.voc21:voc21",
        "context59": "segment.datasets.context59:context59",
        "context60": "segment.datasets.context60:context60",
        "context459": "segment.datasets.context459:context459",
        "coco-object": "segment.datasets.coco_object:coco_object",
        "coco-stuff": "segment.datasets.coco_stuff:coco_stuff",
        "coco-stuff-10k": "segment.datasets.coco_stuff_10k:coco_stuff_10k",
        "coco-stuff-27": "segment.datasets.coco_stuff_27:coco_stuff_27",
        "ade150": "segment.datasets.ade150:ade150",
        "ade847": "segment.datasets.ade847:ade847",
        "cityscapes": "segment.datasets.cityscapes:cityscapes",
        "cityscapes-27": "segment.datasets.cityscapes_27:cityscapes_27",
        "camvid": "segment.datasets.camvid:camvid",
        "folder": "segment.datasets.folder:folder",
    },
    group="datasets",
)


def needs_root(name: str) -> bool:
    """Whether the data set `name` lies on disk, and so takes a root."""
    return "root" in inspect.signature(DATASETS[name]).parameters


def open_dataset(spec: str, root: str | Path | None = None) -> Dataset:
    """The data set that a spec names, such as `voc21` or `coco-object:convention=cliptrase`, below `root`.

    ValueError for a data set on disk without a root, and for a drawn one with.

    Parameters
    ----------
    spec : str
        Name and settings, such as `voc21` or `shapes:scenes=8`.
    root : path or None
        Where a data set on disk lies.

    Returns
    -------
    Dataset
        Has a length, `names`, and samples by number.

    Raises
    ------
    ValueError
        For an unknown name, and for a root that is missing, or not needed.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> len(ao.open_dataset("shapes:scenes=8"))
    8
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
