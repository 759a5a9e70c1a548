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

    Parameters
    ----------
    labels : dict of str to int array (H, W)
        Label map by method.
    truth : int array (H, W)
        The true label map.
    classes : int
        How many classes there are.
    ignore : set of int
        Labels that take part in nothing.

    Returns
    -------
    pandas.Series
        Mean IoU in [0, 1] by method.

    Examples
    --------
    >>> import numpy as np
    >>> import attention_outliers as ao
    >>> truth = np.array([[0, 0], [1, 1]])
    >>> float(ao.miou_by_method({"half": np.zeros((2, 2), int)}, truth, 2)["half"])
    0.25
    """
    values = {
        method: summarize(confusion_matrix(label_map, truth, classes, ignore=ignore)).miou
        for method, label_map in labels.items()
    }
    return pd.Series(values, name="mIoU", dtype=float).rename_axis("method")
