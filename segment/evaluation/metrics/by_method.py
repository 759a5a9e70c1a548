"""Mean IoU of several label maps of one image, for a sheet or a notebook."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd

from segment.evaluation.metrics.confusion import confusion_matrix
from segment.evaluation.metrics.summary import summarize


def miou_by_method(
    labels: Mapping[str, np.ndarray], truth: np.ndarray, classes: int, *, ignore: Collection[int] = (255,)
) -> pd.Series:
    """Mean IoU of each method's label map (H, W) against the truth: a Series named mIoU, method as index.

    One image says little; evaluate many for a number to quote.
    """
    values = {
        method: summarize(confusion_matrix(one, truth, classes, ignore=ignore)).miou for method, one in labels.items()
    }
    return pd.Series(values, name="mIoU", dtype=float).rename_axis("method")
