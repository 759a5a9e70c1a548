"""Boundary IoU: overlap near the outlines alone, where large plain areas do not drown mistakes."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from segment.metrics.confusion import Counts, confusion_matrix, counts_of

# Cheng et al., CVPR 2021, Sec 4.2: 2 % of the picture's diagonal for pictures of MS COCO's size.
SHARE = 0.02


def near_boundary(labels: np.ndarray, distance: int) -> np.ndarray:
    """Pixels within `distance` steps (also diagonal ones) of another label or of the border: (H, W) -> bool (H, W).

    That is what `distance` erosions by a 3 x 3 square take from each class's mask.
    """
    window = 2 * distance + 1
    edge = int(labels.min()) - 1  # beyond the border is another label
    lowest = minimum_filter(labels, window, mode="constant", cval=edge)
    return lowest != maximum_filter(labels, window, mode="constant", cval=edge)


def boundary_counts(
    predicted: np.ndarray, truth: np.ndarray, classes: int, *, ignore: Collection[int] = (255,), share: float = SHARE
) -> Counts:
    """Pixels of each class near its outline in both maps, in the truth, in the prediction: label maps -> Counts (C).

    Their IoU, right / (truth + predicted - right), is boundary IoU. The distance is `share` of the diagonal, at least
    one pixel. Ignored and unscored pixels count nowhere; where they touch a class there is an outline.
    Source: Cheng et al., Boundary IoU, CVPR 2021, arXiv:2103.16562, Eq 2; counts are summed over pictures, as mIoU's.
    """
    height, width = truth.shape
    distance = max(1, round(share * float(np.hypot(height, width))))
    near_truth, near_predicted = near_boundary(truth, distance), near_boundary(predicted, distance)
    kept = confusion_matrix(predicted, np.where(near_truth & near_predicted, truth, -1), classes, ignore=(*ignore, -1))
    in_truth = confusion_matrix(predicted, np.where(near_truth, truth, -1), classes, ignore=(*ignore, -1))
    in_predicted = confusion_matrix(predicted, np.where(near_predicted, truth, -1), classes, ignore=(*ignore, -1))
    return Counts(counts_of(kept).right, counts_of(in_truth).truth, counts_of(in_predicted).predicted)
