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
    if predicted.shape != truth.shape:
        raise ValueError(
            f"`predicted` and `truth` should have one shape; got {predicted.shape} and {truth.shape}. "
            "Score at the size of the label map."
        )
    predicted, truth = predicted.astype(np.int64).ravel(), truth.astype(np.int64).ravel()
    kept = predicted >= 0
    for value in ignore:
        kept &= truth != value
    predicted, truth = predicted[kept], truth[kept]
    if truth.size and (truth.min() < 0 or truth.max() >= classes):
        odd = np.unique(truth[(truth < 0) | (truth >= classes)])
        raise ValueError(
            f"`truth` should hold classes 0…{classes - 1} or ignored values {sorted(ignore)}; it also has "
            f"{odd[:8].tolist()}. The label maps are of another encoding, or have a value that should be ignored."
        )
    if predicted.size and predicted.max() >= classes:
        raise ValueError(f"`predicted` should hold classes below {classes}; got {int(predicted.max())}.")
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def counts_of(matrix: np.ndarray) -> Counts:
    """Right, true and predicted pixels of each class: (…, C, C) -> three (…, C)."""
    return Counts(np.diagonal(matrix, axis1=-2, axis2=-1).copy(), matrix.sum(axis=-1), matrix.sum(axis=-2))
