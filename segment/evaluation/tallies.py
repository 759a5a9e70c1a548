"""Shards added up: exact sums for every method, each image once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from segment.evaluation.metrics import Convention, Resampled, best_matching, counts_of, matched
from segment.evaluation.metrics.summary import mean_iou
from segment.evaluation.protocols.base import Matching
from segment.evaluation.shards import Shard, ShardResult, Tally, read_shard
from segment.evaluation.storage import Storage


class Total:
    """The sums over shards so far. Adding a shard twice, or an image that another shard has, raises ValueError."""

    def __init__(self, methods: Sequence[str], classes: int) -> None:
        self.tallies = {method: Tally.empty(classes) for method in methods}
        self.broken: dict[str, str] = {}
        self.names: set[str] = set()
        self.skipped: set[str] = set()
        self.seconds = 0.0
        self._shards: set[int] = set()

    def add(self, result: ShardResult) -> None:
        """One finished shard."""
        again = set(result.images) & (self.names | self.skipped | self.broken.keys())
        if result.shard.number in self._shards or again:
            raise ValueError(
                f"shard {result.shard.number} would count again: {', '.join(sorted(again)[:3]) or 'all of it'}. The "
                "run's folder is damaged: delete it and run again."
            )
        self._shards.add(result.shard.number)
        self.names |= set(result.names)
        self.broken |= result.broken
        self.skipped |= set(result.skipped)
        self.seconds += result.seconds
        for method, tally in result.tallies.items():
            self.tallies[method].matrix += tally.matrix
            self.tallies[method].boundary += tally.boundary

    @property
    def done(self) -> int:
        """Images that are done, scored or not."""
        return len(self.names) + len(self.broken) + len(self.skipped)

    def miou(self, convention: Convention, matching: Matching) -> dict[str, float]:
        """Mean IoU of each method so far."""
        return {
            method: float(mean_iou(counts_of(final_matrix(tally.matrix, matching)), convention))
            for method, tally in self.tallies.items()
        }


def final_matrix(matrix: np.ndarray, matching: Matching) -> np.ndarray:
    """The confusion matrix that numbers are made from: with `hungarian`, clusters are given to classes first."""
    return matched(matrix) if matching == "hungarian" else matrix


def resampled(
    storage: Storage, shards: Iterable[Shard], run: str, methods: Sequence[str], matchings: Sequence[np.ndarray | None]
) -> list[Resampled]:
    """The bootstrap of some methods over all images, shard by shard; `matchings` gives clusters to classes."""
    samples: list[Resampled] = []
    for shard in shards:
        result = read_shard(storage, shard, run)
        if not samples:
            samples = [Resampled(len(result.tallies[method].matrix)) for method in methods]
        for method, matching, into in zip(methods, matchings, samples, strict=True):
            for name, image in zip(result.names, result.tallies[method].images, strict=True):
                classes, counts = image.counts(matching)
                into.add(name, counts, classes=classes)
    return samples


def matching_of(matrix: np.ndarray, matching: Matching) -> np.ndarray | None:
    """The class of each cluster, or None where the columns are classes already."""
    return best_matching(matrix) if matching == "hungarian" else None
