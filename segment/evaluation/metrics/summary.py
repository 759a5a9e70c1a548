"""The numbers that papers print, from a confusion matrix."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

from diagnostics.registry import unknown_name
from segment.evaluation.metrics.confusion import Counts, counts_of

Convention = Literal["mmseg", "cliptrase"]
CONVENTIONS: tuple[str, ...] = get_args(Convention)

# leaves162/CLIPtrase 2b7de61 adds this to the denominators of IoU and accuracy.
CLIPTRASE_EXTRA = 0.01


class Summary(NamedTuple):
    """Shares in [0, 1]; nan where there is nothing to divide by. `iou` and `accuracy` are (C)."""

    miou: float
    macc: float
    pacc: float
    fwiou: float
    iou: np.ndarray
    accuracy: np.ndarray
    never_predicted: tuple[int, ...]


def mean_iou(counts: Counts, convention: Convention = "mmseg") -> np.ndarray:
    """Mean IoU over the last axis: counts (…, C) -> (…); nan where no class occurs."""
    iou = class_iou(counts, convention)
    with np.errstate(invalid="ignore"):
        present = ~np.isnan(iou)
        return np.where(present, iou, 0).sum(axis=-1) / np.where(present.any(axis=-1), present.sum(axis=-1), np.nan)


def class_iou(counts: Counts, convention: Convention = "mmseg") -> np.ndarray:
    """IoU of each class, (…, C); nan for classes that do not count.

    `mmseg`: right / union; a class in neither truth nor prediction does not count (mmsegmentation's IoUMetric).
    `cliptrase`: right / (union + 0.01); a class that is not in the truth does not count.
    """
    if convention not in CONVENTIONS:
        raise unknown_name("metric convention", convention, CONVENTIONS)
    right, truth, predicted = (np.asarray(part, np.float64) for part in counts)
    union = truth + predicted - right
    if convention == "cliptrase":
        return np.where(truth > 0, right / (union + CLIPTRASE_EXTRA), np.nan)
    return np.divide(right, union, out=np.full(right.shape, np.nan), where=union > 0)


def summarize(matrix: np.ndarray, *, convention: Convention = "mmseg") -> Summary:
    """mIoU, mAcc, pAcc, fwIoU, IoU and accuracy of each class, and the classes that are never predicted.

    matrix: int (C, C), rows are the truth. fwIoU weighs each class by its share of true pixels. Never predicted are
    classes that occur in the truth and in no prediction. `convention` as in `class_iou`; mAcc is over classes in the
    truth (`mmseg`), or over all C (`cliptrase`, where absent ones count 0).
    """
    counts = counts_of(matrix)
    right, truth = counts.right.astype(np.float64), counts.truth.astype(np.float64)
    iou = class_iou(counts, convention)
    if convention == "cliptrase":
        accuracy = right / (truth + CLIPTRASE_EXTRA)
    else:
        accuracy = np.divide(right, truth, out=np.full(right.shape, np.nan), where=truth > 0)
    total = truth.sum()
    return Summary(
        miou=float(mean_iou(counts, convention)),
        macc=float(np.nanmean(accuracy)) if (~np.isnan(accuracy)).any() else float("nan"),
        pacc=float(right.sum() / total) if total else float("nan"),
        fwiou=float(np.nansum(truth * iou) / total) if total else float("nan"),
        iou=iou,
        accuracy=accuracy,
        never_predicted=tuple(np.flatnonzero((counts.truth > 0) & (counts.predicted == 0)).tolist()),
    )
