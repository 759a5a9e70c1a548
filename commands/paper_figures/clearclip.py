"""The figures of ClearCLIP (Lan et al., ECCV 2024, arXiv:2407.12442)."""

from __future__ import annotations

import pandas as pd
import torch
from matplotlib.figure import Figure

from commands.paper_figures.inputs import Inputs, PaperFigure
from commands.paper_figures.maps import colors_of, folded, heads_of, picture, tinted
from figures.bar_panels import bar_panels
from figures.cell_grid import Cell, cell_grid
from figures.label_maps import method_sheet
from figures.setting_curves import setting_curves
from figures.side_by_side import channels_side_by_side, curves_side_by_side
from segment.kernels import kernel_mix
from segment.metrics.by_method import miou_by_method

KINDS = {"qk": "q-k", "identity": "identity", "vv": "v-v", "kk": "k-k", "qq": "q-q", "qq+kk": "q-q + k-k"}
STREAMS = {
    "X_sum": "clearclip:kernel=qk,residual=true,ffn=false",
    "X_res": "clearclip:kernel=qk,residual=true,ffn=false,alpha=0",
    "X_attn": "clearclip:kernel=qk,residual=false,ffn=false",
}
ALPHAS = (0.1, 0.5, 1, 2, 10, 100)  # Fig 6; its text also speaks of 0.5
SHEET = ("clip", "maskclip", "sclip", "clearclip")


def streams(inputs: Inputs) -> Figure:
    layer, layout = inputs.backbone.depth, inputs.layout
    rows = {}
    for number, name in enumerate(inputs.names[:4]):
        recording = inputs.record("block_in", "attn_out", layers=[layer], number=number)
        cells = [picture(inputs, number, head="picture")]
        for tap, words in (("block_in", "X_res"), ("attn_out", "X_attn")):
            patches = layout.patches(recording[tap, layer]).float()[0]
            cells.append(Cell(values=folded(layout, patches.norm(dim=-1)), head=f"norm of {words}"))
            cells.append(Cell(values=colors_of(layout, patches), head=f"{words} as colours"))
        if inputs.text is not None:
            for method, labels in inputs.label_maps("clip", "maskclip", "clearclip", number=number).items():
                cells.append(Cell(values=tinted(inputs, labels, number), head=method, grid=inputs.grid))
        rows[name] = cells
    note = "Last block. Colours are the first three principal components; they do not compare between maps."
    return cell_grid(rows, shared=False, note=note, title=f"X_res and X_attn, {inputs.backbone.spec}")


def norms_by_kind(inputs: Inputs) -> Figure:
    layer, block = inputs.backbone.depth, inputs.backbone.blocks[-1]
    norms = {kind: [0.0, 0.0] for kind in KINDS}
    for number in range(len(inputs.pictures)):
        tokens = inputs.record("block_in", layers=[layer], number=number)["block_in", layer]
        heads = heads_of(inputs, tokens, layer)
        for kind, (residual, attended) in norms.items():
            with torch.no_grad():
                found = block.merge_heads(kernel_mix(heads, kind), heads.normed)
            norms[kind] = [residual + tokens.float().norm().item(), attended + found.float().norm().item()]
    table = pd.DataFrame(norms, index=["X_res", "X_attn"]).T / len(inputs.pictures)
    panels = {"Frobenius norm of the last block": table.rename(index=KINDS)}
    if inputs.labels is not None and inputs.text is not None:
        specs = {f"clearclip:kernel={kind},residual=true,ffn=true": name for kind, name in KINDS.items()}
        scores = pd.DataFrame({"mIoU": inputs.scored(list(specs))}).rename(index=specs)
        panels["mIoU, per cent"] = scores
    return bar_panels(panels, xlabel="attention kind", title=inputs.backbone.spec)


def stream_features(inputs: Inputs) -> Figure:
    found = inputs.scored(list(STREAMS.values()))
    table = pd.DataFrame({"mIoU": {name: found[spec] for name, spec in STREAMS.items()}})
    return bar_panels({"mIoU, per cent": table}, xlabel="features of the last block", title=inputs.backbone.spec)


def entropy(inputs: Inputs) -> Figure:
    found = {one.spec: inputs.probe("entropy", backbone=one) for one in inputs.backbones}
    return curves_side_by_side(found, "entropy", log=False)


def maxima(inputs: Inputs) -> Figure:
    found = {one.spec: inputs.probe("peak", backbone=one) for one in inputs.backbones}
    return curves_side_by_side(found, "peak", log=True)


def channels(inputs: Inputs) -> Figure:
    return channels_side_by_side({one.spec: inputs.probe("channel-mean", backbone=one) for one in inputs.backbones})


def architectures(inputs: Inputs) -> Figure:
    panels = {}
    settings = {"as trained": (True, True), "w/o residual": (False, True), "w/o residual, FFN": (False, False)}
    for model in inputs.backbones:
        columns = {}
        for name, (residual, ffn) in settings.items():
            specs = {f"clearclip:kernel={kind},residual={residual},ffn={ffn}".lower(): words
                     for kind, words in KINDS.items()}  # fmt: skip
            found = inputs.scored(list(specs), model)
            columns[name] = {words: found[spec] for spec, words in specs.items()}
        panels[f"mIoU, per cent\n{model.spec[:40]}"] = pd.DataFrame(columns)
    return bar_panels(panels, xlabel="attention kind")


def scaling(inputs: Inputs) -> Figure:
    specs = {
        (alpha, words): f"clearclip:kernel={kind},residual=true,ffn=false,alpha={alpha}"
        for alpha in ALPHAS
        for kind, words in KINDS.items()
    }
    found = inputs.scored(list(specs.values()))
    table = pd.DataFrame({words: {alpha: found[specs[alpha, words]] for alpha in ALPHAS} for words in KINDS.values()})
    return setting_curves(
        table, xlabel="alpha in X_res + alpha X_attn (log scale)", ylabel="mIoU, per cent", title=inputs.backbone.spec
    )


def sheet(inputs: Inputs, methods: tuple[str, ...] = SHEET) -> Figure:
    """Label maps of one picture by several methods, with the truth and scores where there are labels."""
    labels = inputs.label_maps(*methods)
    names = inputs.words.names
    truth, scores = None, None
    if inputs.labels is not None:
        whole = inputs.labels[0].astype("int64")
        scores = miou_by_method(labels, whole, len(names), ignore=(inputs.ignore,))
        truth = whole.copy()
        truth[truth == inputs.ignore] = -1
    return method_sheet(inputs.pictures[0], labels, names, truth=truth, scores=scores, title=inputs.names[0])


FIGURES = {
    "fig-1": PaperFigure(
        draw=streams,
        shows="maps of X_res and X_attn of the last block, with label maps where there are words",
        claim="noise is in X_res; X_attn is clean",
    ),
    "fig-2": PaperFigure(
        draw=norms_by_kind,
        shows="norms of X_res and X_attn by attention kind, with mIoU where there are labels and words",
        claim="mIoU follows the norm of X_attn",
    ),
    "fig-3": PaperFigure(
        draw=stream_features,
        shows="mIoU of X_sum, X_res and X_attn of the last block as features",
        claim="X_res is near 0, X_attn is above X_sum",
        needs=("labels", "words"),
    ),
    "fig-4a": PaperFigure(
        draw=entropy,
        shows="normalised entropy of the three streams by layer",
        claim="X_res and X_sum of CLIP fall to near 0 from the middle layers; X_attn and DINO stay near 1",
    ),
    "fig-4b": PaperFigure(
        draw=maxima,
        shows="largest value of the three streams by layer",
        claim="X_res and X_sum of CLIP grow to about 90 times; DINO stays below 10",
    ),
    "fig-4c": PaperFigure(
        draw=channels, shows="channel means of X_res, sorted", claim="a few channels dominate in CLIP"
    ),
    "fig-5": PaperFigure(
        draw=architectures,
        shows="mIoU by architecture, attention kind, residual and FFN",
        claim="without the residual every kind gains; q-q and k-k gain most",
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
