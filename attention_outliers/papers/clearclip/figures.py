"""The figures of ClearCLIP (Lan et al., ECCV 2024, arXiv:2407.12442)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.figure import Figure

from attention_outliers.papers.experiment_list import experiments
from attention_outliers.papers.figure_maps import colors_of, folded, heads_of, image, tinted
from attention_outliers.papers.inputs import FigureInputs, PaperFigure, takes_words
from attention_outliers.papers.names import method_name
from attention_outliers.papers.score_comparison import scores_beside_printed
from diagnostics import Backbone
from diagnostics.images.class_colors import class_colors
from figures.curves.setting_curves import setting_curves
from figures.curves.side_by_side import channels_side_by_side, curves_side_by_side
from figures.maps.cell_grid import Cell, cell_grid
from figures.maps.label_maps import legend_of, method_sheet
from figures.tables.bar_panels import bar_panels
from segment.encoders.kernels import kernel_mix
from segment.evaluation.metrics.by_method import miou_by_method

KINDS = {"qk": "q-k", "identity": "identity", "vv": "v-v", "kk": "k-k", "qq": "q-q", "qq+kk": "q-q + k-k"}
STREAMS = {
    "X_sum": "clearclip:kernel=qk,residual=true,ffn=false",
    "X_res": "clearclip:kernel=qk,residual=true,ffn=false,alpha=0",
    "X_attn": "clearclip:kernel=qk,residual=false,ffn=false",
}
# What is left of the last block: residual, FFN.
AS_TRAINED, WITHOUT_RESIDUAL, WITHOUT_BOTH = "as trained", "w/o residual", "w/o residual, FFN"
SETTINGS = {AS_TRAINED: (True, True), WITHOUT_RESIDUAL: (False, True), WITHOUT_BOTH: (False, False)}
SHEET = ("clip", "maskclip", "sclip", "clearclip")
SCALING = "clearclip/figure-6"  # the experiment whose methods Fig 6 draws
# Fig 1, left: CLIP's map and what it is made of, and the maps it is compared with.
DECOMPOSED = {"CLIP": "clip", "X_res alone": STREAMS["X_res"], "X_attn alone": STREAMS["X_attn"],
              "MaskCLIP": "maskclip", "ClearCLIP": "clearclip"}  # fmt: skip
NAMES = {"block_in": "X_res", "attn_out": "X_attn", "block_sum": "X_sum"}
MOST_IMAGES, MOST_WITH_WORDS = 4, 2


def streams(inputs: FigureInputs) -> Figure:
    layer, layout = inputs.backbone.depth, inputs.layout
    rows: dict[str, list[Cell | None]] = {}
    maps: list[np.ndarray] = []
    shown = inputs.names[: MOST_IMAGES if inputs.text is None else MOST_WITH_WORDS]
    for number, name in enumerate(shown):
        recording = inputs.record("block_in", "attn_out", layers=[layer], number=number)
        cells: list[Cell | None] = [image(inputs, number, head="image")]
        for tap, words in (("block_in", "X_res"), ("attn_out", "X_attn")):
            patches = layout.patches(recording[tap, layer]).float()[0]
            cells.append(Cell(values=folded(layout, patches.norm(dim=-1)), head=f"norm of {words}"))
            cells.append(Cell(values=colors_of(layout, patches), head=f"{words} as colors"))
        rows[name] = cells
        if inputs.text is not None:
            labels = inputs.label_maps(*DECOMPOSED.values(), number=number)
            maps += labels.values()
            rows[f"label maps of {name}"] = [
                Cell(values=tinted(inputs, labels[spec], number), head=head, grid=inputs.grid)
                for head, spec in DECOMPOSED.items()
            ]
    handles = legend_of(maps, inputs.words.names, class_colors(len(inputs.words.names))) if maps else ()
    note = "Last block. Colors are the first three principal components; they do not compare between maps."
    return cell_grid(rows, shared=False, legend=handles, note=note, title=f"X_res and X_attn, {inputs.model}")


def norm_table(inputs: FigureInputs) -> pd.DataFrame:
    """Frobenius norms of X_res and X_attn of the last block by attention kind, mean over images."""
    layer, block = inputs.backbone.depth, inputs.backbone.blocks[-1]
    norms = {kind: [0.0, 0.0] for kind in KINDS}
    for number in range(len(inputs.images)):
        tokens = inputs.record("block_in", layers=[layer], number=number)["block_in", layer]
        heads = heads_of(inputs, tokens, layer)
        for kind, (residual, attended) in norms.items():
            with torch.no_grad():
                mixed = block.merge_heads(kernel_mix(heads, kind), heads.normed)
            norms[kind] = [residual + tokens.float().norm().item(), attended + mixed.float().norm().item()]
    table = pd.DataFrame(norms, index=["X_res", "X_attn"]).T / len(inputs.images)
    return table.rename(index=KINDS)


def norms_by_kind(inputs: FigureInputs) -> Figure:
    panels = {}
    specs = {f"clearclip:residual=true,ffn=true,kernel={kind}": name for kind, name in KINDS.items()}
    for model in inputs.backbones:
        view = inputs if model is inputs.backbone else inputs.with_backbone(model)
        behind = f"\n{inputs.models[model.spec]}" if inputs.second is not None else ""
        panels[f"Frobenius norm{behind}"] = norm_table(view)
        if inputs.labels is not None and inputs.text is not None and takes_words(model):
            scores = pd.DataFrame({"mIoU": inputs.scored(list(specs), model)}).rename(index=specs)
            panels[f"mIoU, per cent{behind}"] = scores
    title = "Last block" if inputs.second is not None else f"Last block, {inputs.model}"
    return bar_panels(panels, xlabel="attention kind", title=title)


def stream_features(inputs: FigureInputs) -> Figure:
    scores = inputs.scored(list(STREAMS.values()))
    table = pd.DataFrame({"mIoU": {name: scores[spec] for name, spec in STREAMS.items()}})
    return bar_panels({"mIoU, per cent": table}, xlabel="features of the last block", title=inputs.model)


def stream_maps(inputs: FigureInputs) -> Figure:
    return sheet(inputs, STREAMS)


def _by_backbone(inputs: FigureInputs, measure: str) -> dict[str, xr.Dataset]:
    """A measurement of every backbone by its name, streams under the names that the paper gives them."""
    datasets = {backbone.spec: inputs.probe(measure, backbone=backbone) for backbone in inputs.backbones}
    return {
        spec: data.assign_coords(stream=[NAMES[str(stream)] for stream in data["stream"].values])
        if "stream" in data.dims
        else data
        for spec, data in datasets.items()
    }


def entropy(inputs: FigureInputs) -> Figure:
    return curves_side_by_side(_by_backbone(inputs, "entropy"), "entropy", log=False, center="mean")


def maxima(inputs: FigureInputs) -> Figure:
    return curves_side_by_side(_by_backbone(inputs, "peak"), "peak", log=True, center="mean")


def channels(inputs: FigureInputs) -> Figure:
    return channels_side_by_side(_by_backbone(inputs, "channel-mean"))


def performance(inputs: FigureInputs) -> Figure:
    return scores_beside_printed(inputs, SHEET, ("clearclip/table-2-b16", "clearclip/table-3"))


def architecture_table(
    inputs: FigureInputs, model: Backbone | None = None, *, settings: Sequence[str] = tuple(SETTINGS)
) -> pd.DataFrame:
    """mIoU in per cent, attention kinds by what is left of the last block; of the first backbone by default."""
    columns = {}
    for name in settings:
        residual, ffn = SETTINGS[name]
        specs = {f"clearclip:residual={residual},ffn={ffn},kernel={kind}".lower(): words
                 for kind, words in KINDS.items()}  # fmt: skip
        scores = inputs.scored(list(specs), model)
        columns[name] = {words: scores[spec] for spec, words in specs.items()}
    return pd.DataFrame(columns)


def architectures(inputs: FigureInputs) -> Figure:
    panels = {inputs.models[model.spec]: architecture_table(inputs, model) for model in inputs.backbones}
    return bar_panels(panels, xlabel="attention kind", ylabel=f"mIoU, per cent\n({inputs.scored_as})")


def scaling_table(inputs: FigureInputs) -> pd.DataFrame:
    """mIoU in per cent, alpha by kinds: the methods of `outliers reproduce clearclip/figure-6`."""
    methods = {row.name: row.method for row in experiments()[SCALING].rows}
    scores = inputs.scored(list(methods.values()))
    columns: dict[str, dict[float, float]] = {}
    for name, method in methods.items():
        kind, _, alpha = name.partition(", α = ")
        columns.setdefault(kind, {})[float(alpha)] = scores[method]
    return pd.DataFrame(columns).sort_index()


def scaling(inputs: FigureInputs) -> Figure:
    xlabel = "alpha in X_res + alpha X_attn, FFN on (log scale)"
    return setting_curves(
        scaling_table(inputs), xlabel=xlabel, ylabel=f"mIoU, per cent\n({inputs.scored_as})", title=inputs.model
    )


def sheet(inputs: FigureInputs, methods: Sequence[str] | Mapping[str, str] = SHEET) -> Figure:
    """Label maps of one image by several methods, with the truth and scores where there are labels.

    `methods`: specs, under their printed names, or specs by the name that stands above them.
    """
    specs = dict(methods) if isinstance(methods, Mapping) else {method_name(spec): spec for spec in methods}
    by_spec = inputs.label_maps(*specs.values())
    labels = {name: by_spec[spec] for name, spec in specs.items()}
    names = inputs.words.names
    truth, scores = None, None
    if inputs.labels is not None:
        whole = inputs.labels[0].astype("int64")
        scores = miou_by_method(labels, whole, len(names), ignore=(inputs.ignore,))
        truth = whole.copy()
        truth[truth == inputs.ignore] = -1
    return method_sheet(inputs.images[0], labels, names, truth=truth, scores=scores, title=inputs.names[0])


FIGURES = {
    "fig-1": PaperFigure(
        draw=streams,
        shows="maps of X_res and X_attn of the last block, with label maps where there are words",
        claim="noise is in X_res; X_attn is clean",
    ),
    "fig-1b": PaperFigure(
        draw=performance,
        shows="mIoU of CLIP, MaskCLIP, SCLIP and ClearCLIP, beside the printed numbers",
        claim="ClearCLIP is above CLIP and MaskCLIP on all eight data sets, and above SCLIP on six",
        needs=("labels", "words"),
    ),
    "fig-2": PaperFigure(
        draw=norms_by_kind,
        shows="norms of X_res and X_attn by attention kind, with mIoU where there are labels and words",
        claim="mIoU follows the norm of X_attn",
        pair=True,
    ),
    "fig-3": PaperFigure(
        draw=stream_features,
        shows="mIoU of X_sum, X_res and X_attn of the last block as features",
        claim="X_res is near 0, X_attn is above X_sum",
        needs=("labels", "words"),
    ),
    "fig-3-maps": PaperFigure(
        draw=stream_maps,
        shows="label maps from X_sum, X_res and X_attn of the last block",
        claim="the noise of CLIP's map is that of X_res",
        each=True,
        needs=("words",),
    ),
    "fig-4a": PaperFigure(
        draw=entropy,
        shows="normalized entropy of the three streams by layer",
        claim="X_res and X_sum of CLIP fall to near 0 from the middle layers; X_attn and DINO stay near 1",
        pair=True,
    ),
    "fig-4b": PaperFigure(
        draw=maxima,
        shows="largest value of the three streams by layer",
        claim="X_res and X_sum of CLIP grow to about 90 times; DINO stays below 10",
        pair=True,
    ),
    "fig-4c": PaperFigure(
        draw=channels, shows="channel means of X_res, sorted", claim="a few channels dominate in CLIP", pair=True,
    ),
    "fig-5": PaperFigure(
        draw=architectures,
        shows="mIoU by architecture, attention kind, residual and FFN",
        claim="without the residual every kind gains; q-q and k-k gain most",
        pair=True,
        needs=("labels", "words"),
    ),
    "fig-6": PaperFigure(
        draw=scaling,
        shows="mIoU as attention's output is scaled against the residual",
        claim="rises with alpha, and falls sharply from 1 to 0.5",
        needs=("labels", "words"),
    ),
    "fig-7": PaperFigure(
        draw=sheet, shows="label maps of CLIP, MaskCLIP, SCLIP and ClearCLIP", each=True, needs=("words",)
    ),
}  # fmt: skip
