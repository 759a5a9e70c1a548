"""Boundary IoU: overlap near the outlines alone, where large plain areas do not drown mistakes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from segment.evaluation.metrics.confusion import Counts, scored_pixels

# Cheng et al., CVPR 2021, Sec 4.2: 2 % of the image's diagonal for images of MS COCO's size.
SHARE = 0.02


def near_boundary(labels: np.ndarray, distance: int) -> np.ndarray:
    """Pixels within `distance` steps (also diagonal ones) of another label or of the border: (H, W) -> bool (H, W).

    That is what `distance` erosions by a 3 x 3 square take from each class's mask.
    """
    height, width = labels.shape
    near = np.ones((height, width), bool)  # beyond the border is another label
    if min(height, width) > 2 * distance:
        # Every other pixel's square lies inside: it holds two labels where two neighbors in it differ.
        along = _sums(labels[:, 1:] != labels[:, :-1], 2 * distance + 1, 2 * distance)
        down = _sums(labels[1:] != labels[:-1], 2 * distance, 2 * distance + 1)
        near[distance : height - distance, distance : width - distance] = (along > 0) | (down > 0)
    return near


def _sums(marks: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """How many marks each rectangle of `rows` x `cols` holds: bool (H, W) -> int32 (H - rows + 1, W - cols + 1)."""
    table = np.zeros((marks.shape[0] + 1, marks.shape[1] + 1), np.int32)
    np.cumsum(marks, axis=0, dtype=np.int32, out=table[1:, 1:])
    np.cumsum(table[1:, 1:], axis=1, out=table[1:, 1:])
    return table[rows:, cols:] - table[:-rows, cols:] - table[rows:, :-cols] + table[:-rows, :-cols]


def boundary_counts(
    predicted: np.ndarray, truth: np.ndarray, classes: int, *, ignore: Collection[int] = (255,), share: float = SHARE
) -> Counts:
    """Pixels of each class near its outline in both maps, in the truth, in the prediction: label maps -> Counts (C).

    Their IoU, right / (truth + predicted - right), is boundary IoU. The distance is `share` of the diagonal, at least
    one pixel. Ignored and unscored pixels count nowhere; where they touch a class there is an outline. Labels that are
    no class raise ValueError, as in confusion_matrix.
    Source: Cheng et al., Boundary IoU, CVPR 2021, arXiv:2103.16562, Eq 2; counts are summed over images, as mIoU's.
    """
    height, width = truth.shape
    distance = max(1, round(share * float(np.hypot(height, width))))
    kept = scored_pixels(predicted, truth, classes, ignore=ignore)
    in_truth = near_boundary(truth, distance) & kept
    in_predicted = near_boundary(predicted, distance) & kept
    right = in_truth & in_predicted & (truth == predicted)
    picked = (truth[right], truth[in_truth], predicted[in_predicted])
    return Counts(*(np.bincount(labels, minlength=classes) for labels in picked))
