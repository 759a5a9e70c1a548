"""Two methods on the same images: is the difference larger than what other images would have made of it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segment.evaluation.metrics import Resampled, paired_difference
from segment.evaluation.results import ResultCell
from segment.evaluation.shards import cut, read_shard
from segment.evaluation.storage import storage_at
from segment.evaluation.tallies import matching_of, resampled


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


def paired_differences(cells: Sequence[ResultCell], first: str, second: str) -> list[PairedDifference]:
    """Both methods wherever they were scored alike: same data set, images, backbone and protocol (by its hash).

    Resamples are paired: both methods meet the same images as often. ValueError for a method that is nowhere, and
    where the two have no cell in common.
    """
    for method in (first, second):
        if not any(cell.method == method for cell in cells):
            known = ", ".join(dict.fromkeys(cell.method for cell in cells))
            raise ValueError(f"no result of method `{method}` here; there are {known}.")
    pairs = []
    for cell in cells:
        for other in cells:
            if (cell.method, other.method) == (first, second) and _alike(cell) == _alike(other):
                pairs.append(_pair(cell, other))
    if not pairs:
        raise ValueError(
            f"`{first}` and `{second}` have no data set, protocol, backbone and number of images in common. Run them "
            "in one command: --method FIRST,SECOND."
        )
    return pairs


def _alike(cell: ResultCell) -> tuple[object, ...]:
    return cell.dataset, cell.hash, cell.backbone, cell.settings["weights"], cell.settings["dataset"]["list"]


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
