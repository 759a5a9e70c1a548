"""Methods scored on a labeled data set in one process, without files: for demonstrations, notebooks and tests.

For a number to quote, with a protocol, shards and resumption, see segment.evaluation.evaluate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from diagnostics.backbones.base import Backbone
from diagnostics.images.feed import progress_bar
from segment.datasets.base import Dataset
from segment.evaluation.metrics import Resampled, confusion_matrix, counts_of, summarize
from segment.method import Method, TextFeatures
from segment.segmenter import Segmenter
from segment.text.features import text_features


@dataclass(frozen=True, kw_only=True)
class MethodScores:
    """Confusion matrices (C, C) by method, the resampled counts behind intervals, and the number of images."""

    matrices: dict[str, np.ndarray]
    resampled: dict[str, Resampled]
    images: int

    def table(self) -> pd.DataFrame:
        """mIoU with its 95 % interval over images, and pixel accuracy: method as index, shares in [0, 1]."""
        rows = []
        for method, matrix in self.matrices.items():
            summary, interval = summarize(matrix), self.resampled[method].interval()
            rows.append(
                {
                    "method": method,
                    "mIoU": summary.miou,
                    "low": interval.low,
                    "high": interval.high,
                    "pAcc": summary.pacc,
                }
            )
        return pd.DataFrame(rows).set_index("method")


def score_methods(
    backbone: Backbone,
    dataset: Dataset,
    methods: Sequence[str | Method],
    *,
    text: TextFeatures | None = None,
    limit: int | None = None,
    windows: str = "whole",
    size: str | None = "native",
    progress: bool = False,
    **options: Any,
) -> MethodScores:
    """Every method on the first `limit` samples (all by default), from one forward pass each.

    `text`: the words' features; the data set's own names by default. `windows`, `size` and other options as
    Segmenter's: by default each image is seen whole and as it is.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    dataset : Dataset
        Labeled images, such as `ao.Shapes(scenes=4)`.
    methods : str, Method, or list of them
        Specs such as `"sc-clip:detector=som"`, or methods.
    text : TextFeatures or None
        The words; None takes the names of the data set.
    limit : int or None
        Only the first samples.
    windows : str
        Spec of the windows.
    size : str or None
        Size before windows are cut; None takes the windows' own.
    progress : bool
        Whether a bar is shown.
    **options
        Further arguments of `ao.Segmenter`.

    Returns
    -------
    MethodScores
        `table()` has mIoU and more as shares, method as index.

    Raises
    ------
    ValueError
        For parts that do not fit.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> scores = ao.score_methods(ao.load_backbone("tiny"), ao.Shapes(scenes=2), ["clip", "clearclip"])
    >>> list(scores.table().index)
    ['clip', 'clearclip']
    """
    words = text_features(backbone, list(dataset.names), progress=False) if text is None else text
    segmenter = Segmenter(backbone, methods, words, windows=windows, size=size, strict=True, **options)
    classes = len(dataset.names)
    ignore = () if dataset.ignore is None else (dataset.ignore,)
    specs = [method.spec for method in segmenter.methods]
    matrices = {spec: np.zeros((classes, classes), np.int64) for spec in specs}
    resampled = {spec: Resampled(classes) for spec in specs}
    count = len(dataset) if limit is None else min(limit, len(dataset))
    truths: dict[str, np.ndarray] = {}

    def images() -> Any:
        for sample in islice(dataset, count):
            truths[sample.name] = sample.labels  # popped below: only those in work are held
            yield sample.name, sample.image

    with progress_bar(f"score {len(specs)} methods on {backbone.spec}", count, shown=progress) as bar:
        for segmentations in segmenter.many(images(), labels=truths.__getitem__):
            truth = truths.pop(segmentations[0].name)
            for segmentation in segmentations:
                matrix = confusion_matrix(segmentation.labels, truth, classes, ignore=ignore)
                matrices[segmentation.method] += matrix
                resampled[segmentation.method].add(segmentation.name, counts_of(matrix))
            bar.update(1)
    return MethodScores(matrices=matrices, resampled=resampled, images=count)
