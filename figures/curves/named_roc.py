"""ROC curves of «same class» by name: of layers, methods or models that are compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from figures.curves.roc import area_under
from figures.look import COLUMN, PALETTE, QUIET, drawing


def named_roc(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], *, title: str = "") -> Figure:
    """Name -> false and true positive rates, ascending from 0 to 1; the legend has the area under each.

    Source: SC-CLIP (Bai et al. 2024, arXiv:2411.15869), Fig 4 and 8.
    """
    if not curves:
        raise ValueError("ROC curves should get at least one curve; got none.")
    with drawing((COLUMN, 2.9 + 0.14 * len(curves)), title=title) as figure:
        ax = figure.subplots()
        ax.plot([0, 1], [0, 1], ":", color=QUIET, linewidth=0.8, label="0.50  chance")
        for place, (name, (fpr, tpr)) in enumerate(curves.items()):
            color = PALETTE[place % len(PALETTE)]
            dash = "-" if place < len(PALETTE) else "--"
            ax.plot(fpr, tpr, dash, color=color, label=f"{area_under(fpr, tpr):.2f}  {name}")
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        figure.legend(loc="outside lower left", title="AUC", alignment="left")
    return figure
