"""The confusion matrix of label maps, in exact integers."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """Pixels of each class: right ones, true ones, predicted ones; int64, (C) or (…, C)."""

    right: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def confusion_matrix(
    predicted: np.ndarray, truth: np.ndarray, classes: int, *, ignore: Collection[int] = (255,)
) -> np.ndarray:
    """Pixels by true class (rows) and predicted class (columns): two (H, W) label maps -> int64 (C, C).

    Pixels whose truth is in `ignore`, and pixels that were not scored (prediction below 0), count nowhere. A truth
    outside 0…C-1 that is not ignored raises ValueError: that is a label map of another encoding. So does a prediction
    of C or more.
    """
    kept = scored_pixels(predicted, truth, classes, ignore=ignore)
    truth, predicted = truth[kept].astype(np.int64), predicted[kept].astype(np.int64)
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def scored_pixels(
    predicted: np.ndarray, truth: np.ndarray, classes: int, *, ignore: Collection[int] = (255,)
) -> np.ndarray:
    """Which pixels count: two (H, W) label maps -> bool (H, W). Errors as of confusion_matrix."""
    if predicted.shape != truth.shape:
        raise ValueError(
            f"`predicted` and `truth` should have one shape; got {predicted.shape} and {truth.shape}. "
            "Score at the size of the label map."
        )
    kept = predicted >= 0
    for value in ignore:
        kept &= truth != value
    odd = kept & ((truth < 0) | (truth >= classes))
    if odd.any():
        raise ValueError(
            f"`truth` should hold classes 0…{classes - 1} or ignored values {sorted(ignore)}; it also has "
            f"{np.unique(truth[odd])[:8].tolist()}. The label maps are of another encoding, or have a value that "
            "should be ignored."
        )
    if predicted.size and predicted.max() >= classes:
        raise ValueError(f"`predicted` should hold classes below {classes}; got {int(predicted.max())}.")
    return kept


def counts_of(matrix: np.ndarray) -> Counts:
    """Right, true and predicted pixels of each class: (…, C, C) -> three (…, C)."""
    return Counts(np.diagonal(matrix, axis1=-2, axis2=-1).copy(), matrix.sum(axis=-1), matrix.sum(axis=-2))
