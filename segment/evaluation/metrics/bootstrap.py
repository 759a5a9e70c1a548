"""How far a mean IoU would move with other images: the bootstrap over images, in memory that does not grow."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from segment.evaluation.metrics.confusion import Counts
from segment.evaluation.metrics.summary import Convention, mean_iou

REPLICATES = 1000  # our choice: the ends of a 95 % interval move by about 2 % of its length
LEVEL = 0.95
FEWEST = 2  # images, below which there is nothing to draw again


class Interval(NamedTuple):
    """The lower and the upper end."""

    low: float
    high: float


class Resampled:
    """Sums of counts over many resamples of the images.

    Each image is in each resample a Poisson(1) number of times (Chamandy et al. 2012: for many images that is
    drawing with replacement, but images can come one by one). The numbers depend on the image's name alone: the
    order, the shards and the machine don't matter, and two methods meet the same resamples.
    """

    def __init__(self, classes: int, *, replicates: int = REPLICATES, seed: int = 0) -> None:
        self.sums = np.zeros((3, replicates, classes), np.int64)
        self.seed = seed
        self.images = 0

    def add(self, name: str, counts: Counts, *, classes: np.ndarray | None = None) -> None:
        """One image's counts: (C) each, or (k) each for the k `classes` that occur in it."""
        self.images += 1
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        weights = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big"))).poisson(
            1.0, self.sums.shape[1]
        )
        places = slice(None) if classes is None else classes
        for number, part in enumerate(counts):
            self.sums[number][:, places] += weights[:, None] * np.asarray(part, np.int64)[None]

    def miou(self, convention: Convention = "mmseg") -> np.ndarray:
        """Mean IoU of every resample: (replicates)."""
        return mean_iou(Counts(*self.sums), convention)

    def interval(self, convention: Convention = "mmseg", *, level: float = LEVEL) -> Interval:
        """The interval that holds the middle `level` of the resamples' mean IoU.

        nan for a single image, whose resamples are all alike.
        """
        if self.images < FEWEST:
            return Interval(float("nan"), float("nan"))
        return interval_of(self.miou(convention), level=level)


def paired_difference(
    first: Resampled, second: Resampled, *, convention: Convention = "mmseg", level: float = LEVEL
) -> tuple[Interval, float]:
    """Interval of mIoU(second) - mIoU(first) over the same resamples, and the share of resamples where it is above 0.

    Both must have seen the same images with the same seed.
    """
    if first.sums.shape != second.sums.shape or first.seed != second.seed:
        raise ValueError("both methods should be resampled with the same classes, number of resamples and seed.")
    if not np.array_equal(first.sums[1].sum(axis=1), second.sums[1].sum(axis=1)):
        raise ValueError("both methods should have scored the same images; the true pixels differ.")
    difference = second.miou(convention) - first.miou(convention)
    return interval_of(difference, level=level), float((difference > 0).mean())


def interval_of(values: np.ndarray, *, level: float = LEVEL) -> Interval:
    """The ends that hold the middle `level` of the values; nan values are left out."""
    values = values[~np.isnan(values)]
    if not values.size:
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))
