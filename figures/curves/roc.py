"""ROC curves of «same class» from the similarity of patches, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves.layer_axis import chosen_layers, layers_of
from figures.look import COLUMN, ORDER_COLORS, PALETTE, QUIET, drawing
from figures.text import needs_dims, present

MOST_INSIDE = 5  # curves whose legend has room below them


def curve_of(roc: xr.DataArray, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of one layer, both ascending, from (0, 0) to (1, 1); empty without values."""
    rates = roc.sel(layer=layer)
    fpr, tpr = (rates.sel(rate=rate).values.astype(np.float64) for rate in ("fpr", "tpr"))
    known = np.isfinite(fpr) & np.isfinite(tpr)
    if not known.any():
        return np.empty(0), np.empty(0)
    fpr, tpr = fpr[known], tpr[known]
    order = np.lexsort((tpr, fpr))
    return np.concatenate([[0.0], fpr[order], [1.0]]), np.concatenate([[0.0], tpr[order], [1.0]])


def area_under(fpr: np.ndarray, tpr: np.ndarray) -> float:
    """Area under a curve by trapezoids; NaN for an empty one."""
    return float((np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum()) if fpr.size else float("nan")


def pooled_auc(dataset: xr.Dataset) -> dict[int, float]:
    """AUC over the pooled pairs at each layer: as measured, or from the curve where it was not."""
    if "auc_pooled" in dataset:
        return {layer: float(dataset["auc_pooled"].sel(layer=layer)) for layer in layers_of(dataset)}
    return {layer: area_under(*curve_of(dataset["roc"], layer)) for layer in layers_of(dataset)}


def telling_layers(areas: dict[int, float]) -> list[int]:
    """The first, the best and the last layer that have an AUC."""
    known = {layer: area for layer, area in areas.items() if np.isfinite(area)}
    if not known:
        return []
    return sorted({min(known), max(known, key=known.__getitem__), max(known)})


def draw_roc(ax: Axes, dataset: xr.Dataset, layers: Sequence[int]) -> None:
    """ROC curves of these layers with their AUC in the legend, and the line of chance."""
    areas = pooled_auc(dataset)
    if len(layers) <= 3:
        colors = list(PALETTE)
    else:
        # Many layers are an order, not a set: light to dark would need the whole scale, whose end is too pale.
        colors = list(matplotlib.colormaps[ORDER_COLORS](np.linspace(0, 0.9, len(layers))))
    ax.plot([0, 1], [0, 1], ":", color=QUIET, linewidth=0.8, label="chance: AUC 0.50")
    for layer, color in zip(layers, colors, strict=False):
        ax.plot(*curve_of(dataset["roc"], layer), color=color, label=f"layer {layer}: AUC {areas[layer]:.2f}")
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    if len(layers) <= MOST_INSIDE:
        ax.legend(loc="lower right")
    else:
        ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))


def roc_curves(dataset: xr.Dataset, *, layers: Sequence[int] | None = None, title: str = "") -> Figure:
    """ROC of «same class» by layer, over the pooled pairs of all images (`roc`), with AUC in the legend.

    `layers`: the first, the best and the last by default. The AUC is `auc_pooled` where the data set has it, else the
    area under the drawn curve.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run of `ao.probe`, or a stored one.
    layers : list of int, or None
        Layers 1…L or negative; None takes some, evenly spaced.
    title : str
        Text above the figure; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        If what is drawn was not measured.

    Source
    ------
    SC-CLIP (arXiv:2411.15869), Fig 4 and 8.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> samples = list(ao.Shapes(scenes=2))
    >>> images, labels = [sample.image for sample in samples], [sample.labels for sample in samples]
    >>> dataset = ao.probe(ao.load_backbone("tiny"), images, measures=["auc"], labels=labels)
    >>> type(ao.roc_curves(dataset)).__name__
    'Figure'
    """
    present(dataset, ["roc"], figure="the ROC curves")
    needs_dims(dataset["roc"], "layer", "bin", "rate", figure="the ROC curves")
    telling = telling_layers(pooled_auc(dataset))
    shown = telling if layers is None else chosen_layers(dataset, layers, most=0)
    width = COLUMN if len(shown) <= MOST_INSIDE else COLUMN + 1.3
    with drawing((width, 3.1), title=title) as figure:
        draw_roc(figure.subplots(), dataset, shown)
    return figure
