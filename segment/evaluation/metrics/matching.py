"""Clusters given to classes so that as many pixels as possible are right: the unsupervised setting."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment


def best_matching(matrix: np.ndarray) -> np.ndarray:
    """The class of each cluster, one to one, that makes most pixels right: int (C, K) -> int64 (K), -1 for none.

    Rows are true classes, columns are predicted clusters. With more clusters than classes some stay without a class.
    Source: Kuhn's Hungarian method, through SciPy; the protocol of PiCIE (Cho et al., CVPR 2021).
    """
    rows, columns = linear_sum_assignment(matrix, maximize=True)
    matching = np.full(matrix.shape[1], -1, np.int64)
    matching[columns] = rows
    return matching


def matched(matrix: np.ndarray, matching: np.ndarray | None = None) -> np.ndarray:
    """The confusion matrix (C, C) after clusters are given to classes: int (C, K) -> int64 (C, C).

    More clusters than classes raise ValueError: pixels of a cluster without a class would be in no column.
    """
    classes, clusters = matrix.shape
    if clusters > classes:
        raise ValueError(
            f"there should be at most as many clusters as classes; got {clusters} for {classes}. "
            "Give the method as many words as the data set has classes."
        )
    matching = best_matching(matrix) if matching is None else matching
    merged = np.zeros((classes, classes), np.int64)
    merged[:, matching] = matrix
    return merged
