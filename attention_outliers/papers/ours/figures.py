"""Figures of our own: do detectors agree, what do thresholds do, which layers have outliers, what purifying changes."""

from __future__ import annotations

import functools

import torch
import xarray as xr
from matplotlib.figure import Figure

from attention_outliers.papers.clearclip.figures import sheet
from attention_outliers.papers.figure_maps import METHOD_SHEET, class_row, colors_of, folded, image, mask_map
from attention_outliers.papers.inputs import FigureInputs, PaperFigure
from diagnostics import Recorder, chain
from diagnostics.backbones.base import recorded_attention
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.relative_norm import RelativeNorm
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.purifiers import PURIFIERS as PURIFIER_PARTS
from diagnostics.studies.agreement import agreement_table
from diagnostics.studies.planting import planted_scores
from diagnostics.studies.purification import purification_table
from diagnostics.studies.scoring import score_images
from diagnostics.studies.thresholds import threshold_table
from diagnostics.tap_places import ATTENTION_PARTS
from figures.curves.layer_curves import layer_curve
from figures.curves.planted_roc import planted_roc
from figures.curves.threshold_sweep import threshold_sweep
from figures.maps.cell_grid import Cell, cell_grid
from figures.tables.agreement import agreement
from figures.tables.purification_bars import purification_bars

WANTED = ("norm", "relative-norm", "lof", "lof-release", "som", "received-attention", "stripe", "channel-peak")
PURIFIERS = ("neighbor-mean", "neighbor-median", "image-mean", "zero")
PLANTED = 4  # outliers an image


def _usable(inputs: FigureInputs) -> list[str]:
    """The detectors that can run on the backbone."""
    parts = {spec: DETECTORS.build(spec) for spec in WANTED}
    return [
        spec
        for spec, part in parts.items()
        if not inputs.backbone.lacking(part.needs) and not part.unsupported_reason(inputs.layout)
    ]


def _scores(inputs: FigureInputs, layers: list[int] | None = None) -> xr.Dataset:
    return score_images(inputs.backbone, list(inputs.images), _usable(inputs), layers=layers)


def agreeing(inputs: FigureInputs) -> Figure:
    layer = inputs.backbone.depth - 1
    table = agreement_table(_scores(inputs, [layer]))
    return agreement(table, layer=layer, title=inputs.model)


def sweep(inputs: FigureInputs) -> Figure:
    table = threshold_table(_scores(inputs, inputs.layers(3, 6, 9, 11)))
    return threshold_sweep(table, title=inputs.model)


def planted(inputs: FigureInputs) -> Figure:
    layers = [inputs.layer(7), inputs.layer(9)]
    plantings = planted_scores(inputs.backbone, list(inputs.images), _usable(inputs), [PLANTED], layers=layers)
    return planted_roc(next(plantings)[1], title=inputs.model)


def timeline(inputs: FigureInputs) -> Figure:
    marked = _scores(inputs)["marked"].sel(detector=["relative-norm"])
    counts = marked.sum(("row", "col")).isel(detector=0, drop=True).rename("outliers")
    counts.attrs = {"long_name": "outliers in an image, by relative norm", "units": "1"}
    figure = layer_curve(counts, title=inputs.model)
    (axes,) = figure.axes
    top = max(1.0, axes.get_ylim()[1])
    axes.set_ylim(-0.04 * top, top)  # none at all is 0 at the bottom, not in the middle
    return figure


def purified(inputs: FigureInputs) -> Figure:
    table = purification_table(
        inputs.backbone, list(inputs.images), detector="relative-norm", purifiers=list(PURIFIERS),
        layers=inputs.layers(8, 11), labels=None if inputs.labels is None else list(inputs.labels),
        ignore=(inputs.ignore,),
    )  # fmt: skip
    return purification_bars(table, title=inputs.model)


def purified_maps(inputs: FigureInputs) -> Figure:
    layer, depth, layout = inputs.backbone.depth - 1, inputs.backbone.depth, inputs.layout
    detector = RelativeNorm()
    recorded = inputs.record("block_out", layers=[layer])
    mask = detector(recorded.at(layer), layout).mask[0]
    marked = mask_map(layout, mask)
    rows: dict[str, list[Cell | None]] = {}
    for words, purifier in {"before": "keep", **{name: name for name in PURIFIERS}}.items():
        recorder = Recorder("block_out", *ATTENTION_PARTS, layers=[layer, depth])
        edit = PurifyAt(layers=(layer,), detector=detector, purifier=PURIFIER_PARTS.build(purifier))
        with torch.no_grad():
            inputs.backbone.trunk(inputs.tensor(), tap=chain(edit, recorder))
        recording = recorder.recording
        weights = recorded_attention(recording, depth).mean(dim=1)
        received = layout.patches(layout.patches(weights, dim=1), dim=2)[0].mean(dim=0)
        purified, last = (layout.patches(recording["block_out", at]).float()[0] for at in (layer, depth))
        cells: list[Cell | None] = [
            image(inputs, head=f"{int(mask.sum())} outliers", marked=marked),
            Cell(values=folded(layout, purified.norm(dim=-1)), head=f"norm, layer {layer}"),
            Cell(values=folded(layout, received), head=f"received, layer {depth}"),
        ]
        if layout.has_class_token:
            cells.append(Cell(values=class_row(inputs, weights[0]), head=f"class token, layer {depth}"))
        rows[words] = [*cells, Cell(values=colors_of(layout, last), head=f"features, layer {depth}")]
    note = (
        f"Patches with a norm above 3 x the median at layer {layer} are purified there, and the last block sees it. "
        "Attention that patches receive from patches and that of the class token, mean over heads. Features as three "
        "principal components, which do not compare between maps."
    )
    return cell_grid(rows, shared=False, note=note, title=inputs.names[0])


FIGURES = {
    "agreement": PaperFigure(draw=agreeing, shows="patches that two detectors both mark, at layer L-1"),
    "threshold-sweep": PaperFigure(draw=sweep, shows="tokens marked over the threshold, detector by detector"),
    "planted-roc": PaperFigure(draw=planted, shows="detectors against planted outliers, ROC with AUC"),
    "timeline": PaperFigure(draw=timeline, shows="outliers in an image, layer by layer"),
    "purification": PaperFigure(
        draw=purified, shows="change of the same-class AUC by each purifier", needs=("labels",)
    ),
    "purification-maps": PaperFigure(
        draw=purified_maps, shows="norm, attention and features before and after each purifier", each=True
    ),
    "method-sheet": PaperFigure(
        draw=functools.partial(sheet, methods=METHOD_SHEET), shows="label maps of ten methods", each=True,
        needs=("words",),
    ),
}  # fmt: skip
