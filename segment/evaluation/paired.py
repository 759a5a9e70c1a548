"""Two methods on the same images: is the difference larger than what other images would have made of it?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from diagnostics.registry import spec_name
from segment.evaluation.metrics import Resampled, paired_difference
from segment.evaluation.results import ResultCell
from segment.evaluation.shards import cut, read_shard
from segment.evaluation.storage import storage_at
from segment.evaluation.tallies import matching_of, resampled

Compared = Literal["method", "backbone", "folder"]
# What a pair needs, and what to do where there is none.
COMMON = {
    "method": "data set, protocol, backbone and number of images",
    "backbone": "data set, protocol, method and number of images",
    "folder": "data set, method, backbone and number of images",
}
ADVICE = {
    "method": "Run them in one command: --method FIRST,SECOND.",
    "backbone": "Run the same command with each: --backbone FIRST, then SECOND.",
    "folder": "Run the same methods on the same images into each.",
}
# Settings of a protocol that say how predictions are scored; results under others can't be held against each other.
SCORED = ("metric", "matching", "scored", "empty")


class PairedDifference(NamedTuple):
    """`difference` is mIoU(second) - mIoU(first), with the ends of its 95 % interval; `share`, of the resamples in
    which it is above 0. All in [-1, 1].
    """

    first: ResultCell
    second: ResultCell
    difference: float
    low: float
    high: float
    share: float


def paired_differences(
    cells: Sequence[ResultCell], first: str, second: str, *, by: Compared = "method"
) -> list[PairedDifference]:
    """Two methods, backbones or folders of runs wherever all else was alike: data set, images, and protocol.

    `by` says what `first` and `second` name, of which all else is the same in both cells of a pair: methods under one
    backbone, its weights and one protocol (by its hash); backbones with one method and protocol; or folders of runs
    with one backbone and method, where the protocols may differ, but not in what is scored. Where folders have no
    method of the same spec, those of the same name are paired: two settings of one method. Resamples are paired: both
    meet the same images as often. ValueError for a name that is nowhere, and where the two have no cell in common.
    """
    for name in (first, second):
        if not any(_named(cell, name, by) for cell in cells):
            known = ", ".join(dict.fromkeys(_name(cell, by) for cell in cells))
            raise ValueError(f"no result of {by} `{name}` here; there are {known}.")
    of_first, of_second = ([cell for cell in cells if _named(cell, name, by)] for name in (first, second))
    pairs = _pairs(of_first, of_second, lambda cell: _alike(cell, by, cell.method))
    if not pairs and by == "folder":
        pairs = _pairs(of_first, of_second, lambda cell: _alike(cell, by, spec_name(cell.method)))
    if not pairs:
        raise ValueError(f"`{first}` and `{second}` have no {COMMON[by]} in common. {ADVICE[by]}")
    return pairs


def compared_by(cells: Sequence[ResultCell], names: Sequence[str]) -> Compared:
    """What the names are of: methods, backbones, or folders of runs; methods where they are none of these."""
    kinds: tuple[Compared, ...] = ("method", "backbone", "folder")
    return next((by for by in kinds if all(any(_named(cell, name, by) for cell in cells) for name in names)), "method")


def _pairs(
    first: Sequence[ResultCell], second: Sequence[ResultCell], key: Callable[[ResultCell], object]
) -> list[PairedDifference]:
    return [_pair(cell, other) for cell in first for other in second if key(cell) == key(other)]


def _name(cell: ResultCell, by: Compared) -> str:
    return cell.place if by == "folder" else str(getattr(cell, by))


def _named(cell: ResultCell, name: str, by: Compared) -> bool:
    """Whether a cell is of the method or backbone, or from a run in the folder or below it."""
    if by != "folder":
        return bool(getattr(cell, by) == name)
    if "://" in name or "://" in cell.place:
        return f"{cell.place.rstrip('/')}/".startswith(f"{name.rstrip('/')}/")
    return Path(cell.place).resolve().is_relative_to(Path(name).expanduser().resolve())


def _alike(cell: ResultCell, by: Compared, method: str) -> tuple[object, ...]:
    """What both cells of a pair must have in common; `method` stands for the cell's, where it counts."""
    common = (cell.dataset, cell.settings["dataset"]["list"])
    if by == "backbone":
        return (*common, method, cell.hash)
    model = (cell.backbone, cell.settings["weights"])
    if by == "method":
        return (*common, *model, cell.hash)
    protocol = cell.settings["protocol"]
    return (*common, *model, method, *(protocol.get(key) for key in SCORED))


def _pair(first: ResultCell, second: ResultCell) -> PairedDifference:
    interval, share = paired_difference(
        _resampled(first), _resampled(second), convention=first.settings["protocol"]["metric"]
    )
    return PairedDifference(
        first, second, (second.miou or 0.0) - (first.miou or 0.0), interval.low, interval.high, share
    )


def _resampled(cell: ResultCell) -> Resampled:
    storage = storage_at(cell.place)
    shards = cut(cell.images["asked"], cell.settings["shard"])
    matrices = (read_shard(storage, shard, cell.run).tallies[cell.method].matrix for shard in shards)
    hungarian = cell.settings["protocol"]["matching"] == "hungarian"
    matching = matching_of(np.asarray(sum(matrices)), "hungarian") if hungarian else None
    return resampled(storage, shards, cell.run, [cell.method], [matching])[0]
