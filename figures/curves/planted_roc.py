"""Detectors against outliers whose places are known: ROC curves, each with the point its own rule picks."""

from __future__ import annotations

import itertools

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from sklearn.metrics import auc, roc_curve

from figures.curves.layer_axis import chosen_layers
from figures.look import FULL, PALETTE, QUIET, SMALL_SIZE, drawing
from figures.tables.frames import short_specs
from figures.text import needs_dims, present

DASHES = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)))
LEAST_HEIGHT, LEGEND_LINE = 3.0, 0.137  # inches


def known_places(scores: xr.Dataset, truth: xr.DataArray | None, layer: int) -> np.ndarray:
    """The truth at a layer as bool (image, row, col), in the order of the scores; `planted` where none is given."""
    if truth is None:
        present(scores, ["planted"], figure="a ROC against planted outliers")
        truth = scores["planted"]
    if "layer" in truth.dims:
        truth = truth.sel(layer=layer)
    needs_dims(truth, "image", "row", "col", figure="a ROC against known places")
    places = truth.transpose("image", "row", "col").values.astype(bool)
    shape = tuple(scores.sizes[dim] for dim in ("image", "row", "col"))
    if places.shape != shape:
        raise ValueError(f"`truth` should have the images and grid of the scores, {shape}; got {places.shape}.")
    return places


def draw_planted_roc(ax: Axes, scores: xr.Dataset, places: np.ndarray, layer: int, *, log: bool = True) -> None:
    """A curve for each detector, the best first in the legend, a dot for what its own rule marks, and chance.

    Over the patches of all images together. A detector whose scores are not all finite has no curve; without any
    place to find, or any other patch, there is none at all. `log`: the false positive rate has a log scale down to one
    patch, with 0 at its left end.
    """
    inside = scores["inside"].values.astype(bool) if "inside" in scores else np.ones(places.shape, dtype=bool)
    real = places[inside]
    others = int((~real).sum())
    at_layer = scores.sel(layer=layer)
    curves: list[tuple[float, str, np.ndarray, np.ndarray, tuple[float, float] | None]] = []
    for spec in (str(name) for name in scores["detector"].values):
        part = at_layer.sel(detector=spec)
        values = part["score"].transpose("image", "row", "col").values[inside]
        if not (real.any() and others and np.isfinite(values).all()):
            curves.append((np.nan, spec, np.empty(0), np.empty(0), None))
            continue
        fpr, tpr, _ = roc_curve(real, values)
        dot = None
        if "marked" in part:
            marked = part["marked"].transpose("image", "row", "col").values[inside].astype(bool)
            dot = float(marked[~real].mean()), float(marked[real].mean())
        curves.append((float(auc(fpr, tpr)), spec, fpr, tpr, dot))
    order = sorted(range(len(curves)), key=lambda place: -np.nan_to_num(curves[place][0], nan=-1.0))
    short = short_specs([spec for _, spec, *_ in curves])
    looks = list(itertools.islice(itertools.cycle(itertools.product(DASHES, PALETTE)), len(curves)))
    for place in order:
        area, spec, fpr, tpr, dot = curves[place]
        # The look goes by the detector's place in the data set, so that it is the same at each layer.
        dashes, color = looks[place]
        words = f"{area:.3f}" if np.isfinite(area) else "no AUC"
        ax.plot(fpr, tpr, color=color, linestyle=dashes, label=f"{words}  {short[spec]}")
        if dot is not None:
            ax.plot(*dot, "o", color=color, markersize=4.5, markeredgecolor="white", markeredgewidth=0.5, zorder=3,
                    clip_on=False)  # fmt: skip
    chance = np.concatenate([[0.0], np.geomspace(1 / max(others, 2), 1, 100)])
    ax.plot(chance, chance, ":", color=QUIET, linewidth=0.8, label="0.500  chance")
    if log:
        least = 1 / max(others, 2)
        ax.set_xscale("symlog", linthresh=least, linscale=0.3)
        decades = 10.0 ** np.arange(np.ceil(np.log10(least)), 1)
        ax.xaxis.set_major_locator(FixedLocator([0.0, *decades]))
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel="false positive rate", ylabel="true positive rate")


def planted_roc(
    scores: xr.Dataset,
    truth: xr.DataArray | None = None,
    *,
    layer: int | None = None,
    log: bool = True,
    title: str = "",
) -> Figure:
    """ROC of every detector against known places, with its AUC; dots show what each detector's own rule marks.

    `truth`: bool with dims image, row, col, and layer if it changes with the layer; `planted` of the data set by
    default. `layer`: the last by default. Outliers are few, so the false positive rate has a log scale unless `log` is
    False. The AUC is the area on linear axes.

    Parameters
    ----------
    scores : xarray.Dataset
        What `ao.score_images` gives: `score` and `marked` with dims detector, image, layer, row, col.
    truth : xarray.DataArray or None
        Known places, bool, with dims image, row, col (and layer); `planted` of the scores by default.
    layer : int or None
        The layer, 1…L; the last by default.
    log : bool
        Logarithmic axis of the false positive rate.
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

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> _, scores = next(ao.planted_scores(backbone, scenes, ["norm"], [2], layers=[-1]))
    >>> type(ao.planted_roc(scores)).__name__
    'Figure'
    """
    present(scores, ["score"], figure="a ROC of detectors")
    needs_dims(scores["score"], "detector", "image", "layer", "row", "col", figure="a ROC of detectors")
    (chosen,) = chosen_layers(scores, [-1 if layer is None else layer], most=1)
    places = known_places(scores, truth, chosen)
    lines = scores.sizes["detector"] + 3
    with drawing((FULL * 0.85, max(LEAST_HEIGHT, LEGEND_LINE * lines + 0.4)), title=title) as figure:
        ax = figure.subplots()
        draw_planted_roc(ax, scores, places, chosen, log=log)
        inside = scores["inside"].values.astype(bool) if "inside" in scores else np.ones(places.shape, dtype=bool)
        counts = f"{int(places[inside].sum())} of {int(inside.sum())} patches in {len(places)} images"
        ax.set_title(f"layer {chosen}: {counts} are outliers", fontsize=SMALL_SIZE)
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), title="AUC, dot: own rule", title_fontsize=SMALL_SIZE,
                  alignment="left", borderaxespad=0, handlelength=2.2)  # fmt: skip
    return figure
