"""The figures of SC-CLIP (Bai et al. 2024, arXiv:2411.15869)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from attention_outliers.papers.clearclip.figures import sheet
from attention_outliers.papers.experiment_list import experiments
from attention_outliers.papers.figure_maps import (
    GLOBAL,
    attention,
    colors_of,
    folded,
    image,
    mask_map,
    patch_row,
    place_of,
    queries,
    received_attention,
    shared_scale,
    similarity_row,
    tinted,
)
from attention_outliers.papers.inputs import FigureInputs, PaperFigure
from attention_outliers.papers.names import method_name
from attention_outliers.papers.score_comparison import scores_beside_printed
from diagnostics.backbones.base import attention_weights
from diagnostics.detectors.base import largest
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.images.class_colors import class_colors
from diagnostics.images.label_maps import patch_labels_at
from diagnostics.measures.auc import coarse, pair_histogram, pooled_auc
from diagnostics.purifiers.neighbor_mean import NeighborMean
from figures.curves.named_roc import named_roc
from figures.lettering import backbone_name
from figures.maps.cell_grid import Cell, cell_grid
from figures.maps.label_maps import colored, legend_of
from figures.maps.token_scatter import token_scatter
from segment.encoders.fusion import aggregate, masked_softmax, similarity, thresholded
from segment.encoders.self_calibrate import POST, PRE, SelfCalibrated, layer_at
from segment.methods import METHODS
from segment.scorers.heatmaps import heat_maps

BETA = 0.4  # supplement, Sec 6
ABLATION = "sc-clip/table-2"  # the experiment whose rows are the steps of Fig 8
# What the supplement says of Fig 8: the baseline of the ablation, then its parts; self-adjusting is two rows of it.
STEP_ROWS = {
    "baseline": "baseline",
    "+ anomaly purification": "+ AnomRes",
    "+ self-adjusting": "+ FeatAgg",
    "+ multi-level fusion (SC-CLIP)": "+ MultiFuse",
}
AS_PRINTED = "sc-clip-paper"
SHEET = ("clip", "maskclip", "sclip", "clearclip", "proxyclip", "sc-clip")
SHEET_ALONE = ("clip", "maskclip", "sclip", "clearclip", "sc-clip")
BEFORE_AND_AFTER = ("clip", "sc-clip")  # Fig 1, left


def steps() -> dict[str, str]:
    """The steps of Fig 8 with their methods: those of `outliers reproduce sc-clip/table-2`."""
    methods = {row.name: row.method for row in experiments()[ABLATION].rows}
    return {words: methods[row] for words, row in STEP_ROWS.items()}


def purified_tokens(inputs: FigureInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of layer L-1 as they are and with outliers purified as in the release, and which these are (N)."""
    layer, layout = inputs.backbone.depth - 1, inputs.layout
    recording = inputs.record("block_out", layers=[layer])
    tokens = recording["block_out", layer]
    mask = LofRelease()(recording.at(layer), layout).mask
    return tokens, NeighborMean(isolated="keep").purify_tokens(tokens, mask, layout), mask[0]


def last_attention(inputs: FigureInputs, tokens: Tensor) -> Tensor:
    """Attention of the last block on such tokens, mean over heads: (T, T)."""
    with torch.no_grad():
        heads = inputs.backbone.blocks_on(inputs.layout)[-1].qkv(tokens)
    bias = None if heads.bias is None else heads.bias.float()
    return attention_weights(heads.q.float(), heads.k.float(), bias).mean(dim=1)[0]


def attention_of_patches(inputs: FigureInputs) -> Figure:
    matrix, chosen = attention(inputs, inputs.backbone.depth), queries(inputs, 5)
    received = received_attention(inputs, inputs.backbone.depth)
    boxed = mask_map(inputs.layout, received > GLOBAL * received.mean())
    cells = [image(inputs, head="queries", stars=[place_of(inputs, patch) for patch in chosen], boxed=boxed)]
    for patch in chosen:
        star = [place_of(inputs, patch)]
        cells.append(Cell(values=patch_row(inputs, matrix, patch), head=f"patch {patch}", stars=star, boxed=boxed))
    note = (
        "Attention of the last block, mean over heads, of the patch at the star. Boxes: patches that receive more than "
        f"{GLOBAL:g} times an even share of the attention of all patches."
    )
    return cell_grid({"attention": cells}, note=note, title=inputs.names[0])


def scatter(inputs: FigureInputs) -> Figure:
    tokens, _, mask = purified_tokens(inputs)
    layout = inputs.layout
    class_token = layout.class_token(tokens)[0].float().cpu().numpy() if layout.has_class_token else None
    patches = layout.patches(tokens)[0].float().cpu().numpy()
    title = f"layer {inputs.backbone.depth - 1}: {inputs.names[0]}"
    return token_scatter(
        patches, mask.cpu().numpy(), class_token, title=title, outlier="anomaly token\n(released LOF, always ten)"
    )


def purification(inputs: FigureInputs) -> Figure:
    tokens, purified, mask = purified_tokens(inputs)
    layout = inputs.layout
    marked = mask_map(layout, mask)
    normal, odd = queries(inputs, 1)[0], int(mask.float().argmax()) if mask.any() else queries(inputs, 2)[1]
    states = {"before": tokens, "after": purified}
    means = {words: folded(layout, layout.patches(state)[0].float().mean(dim=-1)) for words, state in states.items()}
    looks = {words: last_attention(inputs, state) for words, state in states.items()}
    rows_of = {patch: {words: patch_row(inputs, looks[words], patch) for words in states} for patch in (normal, odd)}
    rows: dict[str, list[Cell | None]] = {}
    for words in states:
        rows[words] = [
            image(inputs, head="image", marked=marked, stars=[place_of(inputs, normal)],
                  triangles=[place_of(inputs, odd)]),
            Cell(values=means[words], head="mean of channels", marked=marked, scale=shared_scale(*means.values(),
                 log=False)),
            Cell(values=rows_of[normal][words], head=f"patch {normal} looks at", stars=[place_of(inputs, normal)],
                 scale=shared_scale(*rows_of[normal].values())),
            Cell(values=rows_of[odd][words], head=f"outlier at patch {odd} looks at",
                 triangles=[place_of(inputs, odd)], scale=shared_scale(*rows_of[odd].values())),
        ]  # fmt: skip
    note = (
        f"Layer {inputs.backbone.depth - 1}: outliers by the released local outlier factor are outlined, and filled "
        "from their neighbors; attention is that of the last block, mean over heads. Before and after share a scale."
    )
    return cell_grid(rows, shared=False, note=note, title=inputs.names[0])


def similarity_maps(inputs: FigureInputs) -> Figure:
    middle, depth = layer_at(inputs.backbone.depth, PRE, "line"), inputs.backbone.depth
    other = None if inputs.second is None else inputs.with_backbone(inputs.second)
    recording = inputs.record("block_out", layers=[middle, depth])
    encoding = inputs.encoded("sc-clip")[0]
    others = [] if other is None else queries(other, 3)
    rows: dict[str, list[Cell | None]] = {}
    for place, patch in enumerate(queries(inputs, 3)):
        star = [place_of(inputs, patch)]
        unit = torch.nn.functional.normalize(encoding.patches.float(), dim=-1)[0]
        rows[f"patch {patch}"] = [
            image(inputs, stars=star, head="image"),
            *(
                Cell(values=similarity_row(recording["block_out", layer], inputs.layout, patch), head=words, stars=star,
                     log=False)
                for layer, words in ((depth, f"last layer, {depth}"), (middle, f"middle layer, {middle}"))
            ),
            *([] if other is None else [_similar_in(other, others[place], inputs.models[other.backbone.spec])]),
            Cell(values=folded(inputs.layout, unit @ unit[patch]), head="SC-CLIP", stars=star, log=False),
        ]  # fmt: skip
    note = "Cosine similarity to the patch at the star."
    return cell_grid(rows, shared=False, note=note, title=f"{inputs.names[0]}, {inputs.model}")


def _similar_in(other: FigureInputs, patch: int, name: str) -> Cell:
    """Similarity to a patch in the last layer of the backbone that stands beside, on its own grid."""
    last = other.backbone.depth
    tokens = other.record("block_out", layers=[last])["block_out", last]
    values = similarity_row(tokens, other.layout, patch)
    return Cell(values=values, head=f"{name}, last layer, {last}", stars=[place_of(other, patch)], log=False)


class SameClass(NamedTuple):
    """ROC of same-class pairs, pooled over images: rates, and the AUC of each image (n), nan where it has one class."""

    fpr: np.ndarray
    tpr: np.ndarray
    by_image: list[float]


def same_class_curves(
    inputs: FigureInputs, methods: Mapping[str, str], layers: Sequence[str] = ("last", "middle")
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """ROC of same-class pairs of patches, pooled over the images: the last and a middle layer, and these methods."""
    return {name: (curve.fpr, curve.tpr) for name, curve in same_class(inputs, methods, layers).items()}


def same_class(
    inputs: FigureInputs, methods: Mapping[str, str], layers: Sequence[str] = ("last", "middle")
) -> dict[str, SameClass]:
    """The curves of `same_class_curves`, with the AUC of each image."""
    if inputs.labels is None:
        raise ValueError("this figure compares pairs of labeled patches; give --labels DIR, or --scenes N.")
    model, name = inputs.backbone, inputs.model
    numbers = {"last": model.depth, "middle": layer_at(model.depth, PRE, "line")}
    total: dict[str, Tensor] = {}
    by_image: dict[str, list[float]] = {}
    for number, labels in enumerate(inputs.labels):
        height, width = inputs.tensor(number).shape[-2:]
        size = int(height), int(width)
        known = patch_labels_at(labels, size, model.patch_size, ignore=(inputs.ignore,)).to(model.device)
        recording = inputs.record("block_out", layers=[numbers[layer] for layer in layers], number=number)
        features = {
            f"{name}, {layer} layer ({numbers[layer]})": inputs.layout.patches(recording["block_out", numbers[layer]])
            for layer in layers
        }
        if methods:
            encodings = inputs.encoded(*methods.values(), number=number)
            features |= {words: encoding.patches for words, encoding in zip(methods, encodings, strict=True)}
        for what, patches in features.items():
            counts = pair_histogram(patches.float(), known)
            total[what] = counts if what not in total else total[what] + counts
            by_image.setdefault(what, []).append(float(pooled_auc(counts.cpu().numpy()).auc))
    curves = {}
    for what, counts in total.items():
        curve = pooled_auc(counts.cpu().numpy())
        if reason := coarse(float(curve.error)):
            warnings.warn(f"{what}: {reason}.", stacklevel=3)
        if np.isfinite(curve.auc):
            # Where neither rate moves, a bin has no pair.
            moves = np.diff(curve.fpr + curve.tpr, prepend=-1) > 0
            curves[what] = SameClass(curve.fpr[moves], curve.tpr[moves], by_image[what])
    return curves


def _second_curves(inputs: FigureInputs) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The last layer of the backbone that stands beside, DINO in the paper; nothing without one."""
    if inputs.second is None:
        return {}
    curves = same_class_curves(inputs.with_backbone(inputs.second), {}, ["last"])
    return {name.replace(backbone_name(inputs.second.spec), inputs.models[inputs.second.spec]): curve
            for name, curve in curves.items()}  # fmt: skip


def layer_roc(inputs: FigureInputs) -> Figure:
    curves = same_class_curves(inputs, {"SC-CLIP": "sc-clip"}) | _second_curves(inputs)
    return named_roc(curves, title=f"same class? pairs of patches, {len(inputs.images)} images")


def step_roc(inputs: FigureInputs) -> Figure:
    curves = same_class_curves(inputs, steps()) | _second_curves(inputs)
    return named_roc(curves, title=f"same class? pairs of patches, {len(inputs.images)} images")


class Adjusted(NamedTuple):
    """What self-adjusting works with and gives, as printed, for one image; attention is that between patches.

    `patches` (1, N, D) of layer L-1 with anomaly tokens resolved, `similar` (1, N, N) their cosine in the middle layer,
    `aggregated` (1, N, D), and `own`, `gated`, `enhanced` (N, N): softmax(KK), softmax(Simi) and their sum, Eq 6.
    """

    patches: Tensor
    similar: Tensor
    aggregated: Tensor
    kk: Tensor
    gated: Tensor
    enhanced: Tensor


def adjusted(inputs: FigureInputs, number: int = 0) -> Adjusted:
    """Eq 3-6 as printed, with the parts of `sc-clip-paper`; K-K attention is the mean over heads."""
    printed = METHODS[AS_PRINTED].encoder
    assert isinstance(printed, SelfCalibrated)
    depth, layout = inputs.backbone.depth, inputs.layout
    last, middle = depth - 1, printed.plan(depth).pre
    recording = inputs.record("block_out", *printed.detector.needs, layers=[middle, last], number=number)
    tokens = recording["block_out", last]
    mask = largest(printed.detector.score(recording.at(last), layout), printed.count or 1)
    class_token = layout.class_token(tokens) if layout.has_class_token else None
    patches = printed.purifier(layout.patches(tokens), mask, layout, class_token=class_token).float()
    similar = similarity(layout.patches(recording["block_out", middle]))
    with torch.no_grad():
        heads = inputs.backbone.blocks_on(layout)[-1].qkv(patches.to(tokens.dtype))
    heads = heads if printed.kernel_positions == "kept" else heads.without_positions()
    bias = None if heads.bias is None else heads.bias.float()
    kk = attention_weights(heads.k.float(), heads.k.float(), bias).mean(dim=1)[0]
    gated = masked_softmax(similar, shift=printed.gate_shift, scale=printed.gate_scale)[0]
    return Adjusted(patches, similar, aggregate(thresholded(similar, printed.beta), patches), kk, gated, kk + gated)


# The segmentations of Fig 5 (a): without and with aggregated features, nothing else of Sec 3.3 and 3.4.
UNADJUSTED = f"{AS_PRINTED}:pre=false,post=false,similarity_weight=0,second_branch=none"
AGGREGATED = f"{AS_PRINTED}:pre=true,post=false,similarity_weight=0,second_branch=none"


def self_adjusting(inputs: FigureInputs) -> Figure:
    parts, layout = adjusted(inputs), inputs.layout
    middle = layer_at(inputs.backbone.depth, PRE, "line")
    patch = queries(inputs, 1)[0]
    star = [place_of(inputs, patch)]

    def row(weights: Tensor, head: str, log: bool | None = None) -> Cell:
        return Cell(values=folded(layout, weights[patch]), head=head, stars=star, log=log)

    features: list[Cell | None] = [
        image(inputs, head="image", stars=star),
        Cell(values=colors_of(layout, parts.patches[0]), head="features"),
        row(parts.similar[0], f"similarity, layer {middle}", log=False),
        Cell(values=colors_of(layout, parts.aggregated[0]), head="aggregated features"),
    ]
    attention_row: list[Cell | None] = [
        row(parts.kk, "K-K attention"),
        row(parts.gated, "softmax of similarity"),
        row(parts.enhanced, "enhanced: their sum"),
    ]
    maps: list[np.ndarray] = []
    if inputs.text is not None:
        labels = inputs.label_maps(UNADJUSTED, AGGREGATED)
        maps = [labels[UNADJUSTED], labels[AGGREGATED]]
        for place, head in ((2, "segmentation"), (5, "segmentation, aggregated")):
            shown = maps[0 if place == 2 else 1]
            features.insert(place, Cell(values=tinted(inputs, shown), head=head, grid=inputs.grid))
    handles = legend_of(maps, inputs.words.names, class_colors(len(inputs.words.names))) if maps else ()
    note = (
        "Eq 3 to 6 as printed: anomaly tokens of the layer before the last are resolved, the similarity's layer is as "
        "it is. Attention of the star's patch in the last block, mean over heads. Colors of features are three "
        "principal components and do not compare between maps."
    )
    rows = {"a  features": features, "b  attention": attention_row}
    return cell_grid(rows, shared=False, legend=handles, note=note, title=inputs.names[0])


def shallow_and_deep(inputs: FigureInputs) -> Figure:
    layers = sorted({layer_at(inputs.backbone.depth, POST, "line"), *inputs.layers(5, 8, 9)})
    recording = inputs.record("block_out", layers=layers)
    rows: dict[str, list[Cell | None]] = {}
    for patch in queries(inputs, 3):
        star = [place_of(inputs, patch)]
        cells: list[Cell | None] = [image(inputs, stars=star, head="image")]
        for layer in layers:
            values = similarity_row(recording["block_out", layer], inputs.layout, patch)
            cells.append(Cell(values=values, head=f"layer {layer}", stars=star, log=False))
        rows[f"patch {patch}"] = cells
    return cell_grid(rows, note="Cosine similarity to the patch at the star.", title=inputs.names[0])


def _asked(inputs: FigureInputs) -> list[int]:
    """Numbers of at most four words: those that the image shows, the largest first, where it has labels."""
    names = inputs.words.names
    shown: list[int] = []
    if inputs.labels is not None:
        numbers, areas = np.unique(inputs.labels[0], return_counts=True)
        shown = [int(numbers[place]) for place in np.argsort(-areas, kind="stable")]
        shown = [number for number in shown if number != inputs.ignore and 0 <= number < len(names)]
    return [*shown, *(number for number in range(len(names)) if number not in shown)][:4]


def prompts(inputs: FigureInputs) -> Figure:
    """Four words by CLIP and by SC-CLIP: heat maps from 0 to 1, and where each of them wins among all words."""
    text, rows = inputs.words, {}
    chosen = _asked(inputs)
    size = inputs.tensor().shape[-2:]
    labels = inputs.label_maps(*BEFORE_AND_AFTER)
    colors = class_colors(len(text.names))
    for spec, encoding in zip(BEFORE_AND_AFTER, inputs.encoded(*BEFORE_AND_AFTER), strict=True):
        unit = torch.nn.functional.normalize(encoding.patches.float(), dim=-1)
        cosines = (unit @ text.features.to(unit).mT).cpu()
        best = torch.stack([cosines[..., text.owners.cpu() == number].amax(dim=-1) for number in chosen], 2)
        maps = heat_maps(encoding.layout.to_map(best).permute(0, 3, 1, 2), (size[0], size[1]))[0].numpy()
        heads = [text.names[number] for number in chosen]
        heat: list[Cell | None] = [image(inputs, head="image")]
        heat += [Cell(values=values, head=head) for head, values in zip(heads, maps, strict=True)]
        where = [np.where(labels[spec] == number, number, -1) for number in chosen]
        segments: list[Cell | None] = [Cell(values=tinted(inputs, labels[spec]), head="image", grid=inputs.grid)]
        segments += [
            Cell(values=colored(inputs.images[0], values, colors), head=head, grid=inputs.grid)
            for head, values in zip(heads, where, strict=True)
        ]
        rows[method_name(spec)] = heat
        rows[f"{method_name(spec)}, segmentation"] = segments
    note = (
        "Heat maps: cosine with the word, each stretched from 0 to 1. Segmentations: the pixels that the word wins "
        "among all words, on the left all of them."
    )
    handles = legend_of(list(labels.values()), text.names, colors)
    return cell_grid(rows, limits=(0, 1), legend=handles, note=note, title=inputs.names[0])


def performance(inputs: FigureInputs) -> Figure:
    return scores_beside_printed(inputs, SHEET_ALONE, ("sc-clip/table-1-b16",))


qualitative = functools.partial(sheet, methods=SHEET_ALONE)
before_and_after = functools.partial(sheet, methods=BEFORE_AND_AFTER)

FIGURES = {
    "fig-1": PaperFigure(
        draw=performance,
        shows="mIoU of CLIP, MaskCLIP, SCLIP, ClearCLIP and SC-CLIP, beside the printed numbers",
        claim="SC-CLIP is above the others on all eight data sets",
        needs=("labels", "words"),
    ),
    "fig-1-maps": PaperFigure(
        draw=before_and_after,
        shows="label maps of CLIP and SC-CLIP",
        claim="CLIP's map is noisy, SC-CLIP's is clearer and finer",
        each=True,
        needs=("words",),
    ),
    "fig-2a": PaperFigure(
        draw=attention_of_patches,
        shows="attention of several patches in the last layer",
        claim="all are hot at the same places",
        each=True,
    ),
    "fig-2b": PaperFigure(
        draw=scatter,
        shows="tokens of layer L-1 in the plane of their principal components, outliers marked",
        claim="anomaly tokens lie apart; the class token lies with the normal ones",
        each=True,
    ),
    "fig-3": PaperFigure(
        draw=purification,
        shows="features and attention before and after anomaly tokens are purified",
        claim="attention spreads to what belongs to the patch",
        each=True,
    ),
    "fig-4": PaperFigure(
        draw=similarity_maps,
        shows="similarity to patches in the last and a middle layer, of SC-CLIP, and of another backbone with --second",
        claim="middle layers are coherent where the last one is not, as DINO's",
        each=True,
        pair=True,
    ),
    "fig-4-roc": PaperFigure(
        draw=layer_roc,
        shows="ROC of same-class pairs: last and middle layer, SC-CLIP, and another backbone with --second",
        claim="AUC 0.66 last, 0.76 middle, DINO 0.77, SC-CLIP 0.81",
        needs=("labels",),
        pair=True,
    ),
    "fig-5": PaperFigure(
        draw=self_adjusting,
        shows="features before and after aggregation, K-K attention and the same with similarity added (Eq 6)",
        claim="features become coherent; K-K attention is too narrow, with similarity it is broad and follows objects",
        each=True,
    ),
    "fig-6": PaperFigure(draw=qualitative, shows="label maps by several methods", each=True, needs=("words",)),
    "fig-7": PaperFigure(
        draw=shallow_and_deep,
        shows="similarity maps of shallow and deep middle layers",
        claim="shallow layers are local, deep ones broad",
        each=True,
    ),
    "fig-8": PaperFigure(
        draw=step_roc,
        shows="ROC of same-class pairs, step by step from the baseline to SC-CLIP; another backbone with --second",
        claim="AUC 0.66, 0.76, then 0.69, 0.74, 0.80, 0.81; DINO 0.77",
        needs=("labels",),
        pair=True,
    ),
    "fig-9": PaperFigure(
        draw=prompts, shows="heat maps and segmentations of four words, by CLIP and SC-CLIP", each=True,
        needs=("words",),
    ),
    "fig-10": PaperFigure(
        draw=qualitative, shows="fig-6 with the next images", each=True, needs=("words",), continues="fig-6"
    ),
}  # fmt: skip
