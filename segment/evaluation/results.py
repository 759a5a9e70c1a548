"""Cells: one method on one data set under one protocol, with every number, as JSON and as rows of a table."""

from __future__ import annotations

import io
import json
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from diagnostics.json_object import DamagedFile, json_object
from segment.evaluation.metrics import Convention, Counts, Interval, Summary, summarize
from segment.evaluation.metrics.summary import class_iou
from segment.evaluation.storage import Storage
from segment.run import file_name

AGAIN = "Run the same `outliers evaluate` again: it writes its cells anew from the shards."
SHARES = ("miou", "low", "high", "macc", "pacc", "fwiou", "boundary_iou")
FOLDER, TABLE = "cells", "cells.parquet"
PACKAGES = ("attention-outliers", "torch", "torchvision", "open_clip_torch", "timm", "numpy", "pillow", "scipy")


@dataclass(frozen=True, kw_only=True)
class ResultCell:
    """The numbers of one method on one data set. All but counts are shares in [0, 1]; None where undefined.

    `low` and `high` are the ends of the 95 % interval of the mean IoU over other images. `classes` has for each class
    its name, `iou`, `accuracy`, `boundary_iou`, and the `true` and `predicted` pixels. `images` counts those
    `scored`, `broken`, and `skipped` by the protocol, those `asked` for, and those that the data set `has`. `protocol`
    is its name, and `hash` that of its content; `run` that of everything.
    """

    method: str
    dataset: str
    backbone: str
    protocol: str
    hash: str
    published: bool
    departures: tuple[str, ...]
    miou: float | None
    low: float | None
    high: float | None
    macc: float | None
    pacc: float | None
    fwiou: float | None
    boundary_iou: float | None
    never_predicted: tuple[str, ...]
    classes: tuple[dict[str, Any], ...]
    matching: dict[str, str] | None
    images: dict[str, int]
    broken: dict[str, str]
    seconds: float
    settings: dict[str, Any]
    versions: dict[str, str]
    run: str
    place: str = ""

    @property
    def whole(self) -> bool:
        """Whether all images of the data set were scored, but for those that the protocol skips."""
        return self.images["scored"] + self.images["skipped"] == self.images["has"]


def cell_numbers(
    matrix: np.ndarray, boundary: np.ndarray | None, interval: Interval, names: Sequence[str], convention: Convention
) -> dict[str, Any]:
    """The numeric fields of a cell, from its (C, C) matrix and the (3, C) counts near outlines."""
    summary: Summary = summarize(matrix, convention=convention)
    boundary_iou = np.full(len(names), math.nan)
    if boundary is not None:
        boundary_iou = class_iou(Counts(*boundary), convention)
    true, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    return {
        "miou": _number(summary.miou),
        "low": _number(interval.low),
        "high": _number(interval.high),
        "macc": _number(summary.macc),
        "pacc": _number(summary.pacc),
        "fwiou": _number(summary.fwiou),
        "boundary_iou": _number(float(np.nanmean(boundary_iou)) if not np.isnan(boundary_iou).all() else math.nan),
        "never_predicted": tuple(names[number] for number in summary.never_predicted),
        "classes": tuple(
            {
                "name": name,
                "iou": _number(summary.iou[number]),
                "accuracy": _number(summary.accuracy[number]),
                "boundary_iou": _number(boundary_iou[number]),
                "true": int(true[number]),
                "predicted": int(predicted[number]),
            }
            for number, name in enumerate(names)
        ),
    }


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def versions() -> dict[str, str]:
    """What a number was made with."""
    versions_by_name = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            versions_by_name[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions_by_name


def write_cells(storage: Storage, cells: Sequence[ResultCell]) -> None:
    """A JSON for each cell, and one Parquet table with a row for each."""
    for cell in cells:
        content = {key: value for key, value in asdict(cell).items() if key != "place"}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        storage.write(f"{FOLDER}/{file_name(cell.method)}.json", text.encode())
    file = io.BytesIO()
    frame(cells).to_parquet(file)
    storage.write(TABLE, file.getvalue())


def read_cells(place: str | Path) -> list[ResultCell]:
    """All cells below a folder, of one run or of many in sub-folders, or of one run at a URL.

    ValueError where there are none, and for a file that is no cell.
    """
    text = str(place)
    contents: Iterator[tuple[str, str, bytes]]
    if "://" in text:
        from segment.evaluation.storage import storage_at

        storage = storage_at(text)
        contents = (
            (text, f"{text}/{FOLDER}/{name}", storage.read(f"{FOLDER}/{name}")) for name in storage.list(FOLDER)
        )
    else:
        paths = sorted(Path(place).expanduser().glob(f"**/{FOLDER}/*.json"))
        contents = ((str(path.parent.parent), str(path), path.read_bytes()) for path in paths)
    cells = []
    for where, file, content in contents:
        values = json_object(content, file, AGAIN)
        try:
            for key in ("departures", "never_predicted", "classes"):
                values[key] = tuple(values[key])
            cell = ResultCell(**{**values, "place": where})
            shares = {key: getattr(cell, key) for key in SHARES}
            wrong = [key for key, share in shares.items() if share is not None and not 0 <= share <= 1]
            _check_kinds(cell)
        except (KeyError, TypeError) as error:
            raise DamagedFile(f"`{file}` is no cell of `outliers evaluate` ({error}). {AGAIN}") from error
        if wrong:
            raise DamagedFile(f"`{file}`: {', '.join(wrong)} should be shares in [0, 1], or null. {AGAIN}")
        cells.append(cell)
    if not cells:
        raise ValueError(
            f"`{place}` has no results of `outliers evaluate`: give the folder that --out named, or one above. A run "
            "writes them when its last shard is done."
        )
    return cells


# What a cell's fields hold; None besides for the shares and for `matching`.
KINDS: dict[type, tuple[str, ...]] = {
    str: ("method", "dataset", "backbone", "protocol", "hash", "run"),
    dict: ("images", "broken", "settings", "versions"),
}


def _check_kinds(cell: ResultCell) -> None:
    """TypeError for a field of another kind."""
    for kind, fields in KINDS.items():
        for field in fields:
            if not isinstance(value := getattr(cell, field), kind):
                raise TypeError(f"`{field}` should be {kind.__name__}, not {type(value).__name__}")
    lacking = [key for key in ("scored", "skipped", "has") if not isinstance(cell.images.get(key), int)]
    if lacking:
        raise TypeError(f"`images` should count {', '.join(lacking)}")


COLUMNS = ("method", "dataset", "backbone", "protocol", "hash", "miou", "low", "high", "macc", "pacc", "fwiou")


def frame(cells: Sequence[ResultCell]) -> pd.DataFrame:
    """A row for each cell, without the classes."""
    rows = []
    for cell in cells:
        row: dict[str, Any] = {name: getattr(cell, name) for name in (*COLUMNS, "boundary_iou", "published", "run")}
        row |= {f"images_{key}": value for key, value in cell.images.items()}
        row |= {"never_predicted": len(cell.never_predicted), "seconds": cell.seconds}
        rows.append(row)
    return pd.DataFrame(rows)
