"""What methods score on the given images, beside what their paper prints."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from attention_outliers.papers.inputs import FigureInputs
from attention_outliers.papers.names import data_set_name, method_name
from attention_outliers.papers.printed import row_of
from figures.tables.bar_panels import bar_panels


def scores_beside_printed(
    inputs: FigureInputs, methods: Sequence[str], sources: Sequence[str], *, printed: str = "printed, ViT-B/16"
) -> Figure:
    """Mean IoU of the methods on all images, and what the sources of published numbers have for them by data set.

    The two panels are of other images and another model: what can be compared is the order of the methods.
    """
    scores = pd.Series(inputs.scored(methods))
    rows: dict[str, dict[str, float]] = {method: {} for method in methods}
    for source in sources:
        for method in methods:
            rows[method] |= row_of(source, method)
    ours = pd.DataFrame([scores[list(methods)]], index=[f"{len(inputs.images)} images"])
    theirs = pd.DataFrame({method: rows[method] for method in methods}).rename(index=data_set_name)
    ours, theirs = (table.rename(columns=method_name) for table in (ours, theirs))
    return bar_panels({inputs.model: ours, printed: theirs}, ylabel=f"mIoU, per cent\n(ours: {inputs.scored_as})")
