"""Figures of our own: do detectors agree, what do thresholds do, which layers have outliers, what mending changes."""

from __future__ import annotations

import functools

import xarray as xr
from matplotlib.figure import Figure

from commands.paper_figures.clearclip import sheet
from commands.paper_figures.inputs import Inputs, PaperFigure
from commands.paper_figures.maps import METHOD_SHEET
from diagnostics.compare import agreement_table, planted_scores, score_pictures, threshold_table
from diagnostics.detectors import DETECTORS
from diagnostics.removal import removal_table
from figures.agreement import agreement
from figures.layer_curves import layer_curve
from figures.planted_roc import planted_roc
from figures.removal_bars import removal_bars
from figures.threshold_sweep import threshold_sweep

WANTED = ("norm", "relative-norm", "lof", "lof-release", "som", "received-attention", "stripe", "channel-peak")
PURIFIERS = ("neighbour-mean", "neighbour-median", "image-mean", "zero")
PLANTED = 4  # outliers a picture


def _usable(inputs: Inputs) -> list[str]:
    """The detectors that can run on the backbone."""
    return [spec for spec in WANTED if not DETECTORS.build(spec).refusal(inputs.layout)]


def _scores(inputs: Inputs, layers: list[int] | None = None) -> xr.Dataset:
    return score_pictures(inputs.backbone, list(inputs.pictures), _usable(inputs), layers=layers)


def agreeing(inputs: Inputs) -> Figure:
    layer = inputs.backbone.depth - 1
    table = agreement_table(_scores(inputs, [layer]))
    return agreement(table, layer=layer, title=inputs.backbone.spec)


def sweep(inputs: Inputs) -> Figure:
    table = threshold_table(_scores(inputs, inputs.layers(3, 6, 9, 11)))
    return threshold_sweep(table, title=inputs.backbone.spec)


def planted(inputs: Inputs) -> Figure:
    layers = [inputs.layer(7), inputs.layer(9)]
    found = planted_scores(inputs.backbone, list(inputs.pictures), _usable(inputs), [PLANTED], layers=layers)
    return planted_roc(next(found)[1], title=inputs.backbone.spec)


def timeline(inputs: Inputs) -> Figure:
    marked = _scores(inputs)["marked"].sel(detector=["relative-norm"])
    counts = marked.sum(("row", "col")).isel(detector=0, drop=True).rename("outliers")
    counts.attrs = {"long_name": "outliers in a picture, by relative norm", "units": "1"}
    return layer_curve(counts, title=inputs.backbone.spec)


def purified(inputs: Inputs) -> Figure:
    table = removal_table(
        inputs.backbone, list(inputs.pictures), detector="relative-norm", purifiers=list(PURIFIERS),
        layers=inputs.layers(8, 11), labels=None if inputs.labels is None else list(inputs.labels),
        ignore=(inputs.ignore,),
    )  # fmt: skip
    return removal_bars(table, title=inputs.backbone.spec)


FIGURES = {
    "agreement": PaperFigure(draw=agreeing, shows="patches that two detectors both mark, at layer L-1"),
    "threshold-sweep": PaperFigure(draw=sweep, shows="tokens marked over the threshold, detector by detector"),
    "planted-roc": PaperFigure(draw=planted, shows="detectors against planted outliers, ROC with AUC"),
    "timeline": PaperFigure(draw=timeline, shows="outliers in a picture, layer by layer"),
    "purification": PaperFigure(
        draw=purified, shows="change of the same-class AUC by each purifier", needs=("labels",)
    ),
    "method-sheet": PaperFigure(
        draw=functools.partial(sheet, methods=METHOD_SHEET), shows="label maps of all methods", each=True,
        needs=("words",),
    ),
}  # fmt: skip
