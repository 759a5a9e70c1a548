"""The figures of SC-CLIP (Bai et al. 2024, arXiv:2411.15869)."""

from __future__ import annotations

import functools

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from attention_outliers.papers.clearclip.figures import sheet
from attention_outliers.papers.figure_maps import (
    attention,
    colors_of,
    folded,
    image,
    mask_map,
    patch_row,
    place_of,
    queries,
    similarity_row,
)
from attention_outliers.papers.inputs import Inputs, PaperFigure
from attention_outliers.papers.score_comparison import scores_beside_printed
from diagnostics.backbones.base import attention_weights
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.images.label_maps import patch_labels_at
from diagnostics.measures.auc import pair_histogram, roc_from_histogram
from diagnostics.purifiers.neighbor_mean import NeighborMean
from figures.curves.named_roc import named_roc
from figures.maps.cell_grid import Cell, cell_grid
from figures.maps.token_scatter import token_scatter
from figures.text import shortened
from segment.encoders.fusion import aggregate, masked_softmax, similarity, thresholded
from segment.encoders.self_calibrate import POST, PRE, layer_at
from segment.scorers.heatmaps import heat_maps

BETA = 0.4  # supplement, Sec 6
NAME = 30  # characters of a backbone's name in a legend
STEPS = {
    "SCLIP attention, no residual or FFN": "sclip:residual=false,ffn=false",
    "+ anomaly purification": "sclip:residual=false,ffn=false,purifier=neighbor-mean",
    "+ self-adjusting": "sc-clip:second_branch=none",
    "+ multi-level fusion (SC-CLIP)": "sc-clip",
}
SHEET = ("clip", "maskclip", "sclip", "clearclip", "proxyclip", "sc-clip")
SHEET_ALONE = ("clip", "maskclip", "sclip", "clearclip", "sc-clip")


def purified_tokens(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of layer L-1 as they are and with outliers purified as in the release, and which these are (N)."""
    layer, layout = inputs.backbone.depth - 1, inputs.layout
    recording = inputs.record("block_out", layers=[layer])
    tokens = recording["block_out", layer]
    mask = LofRelease()(recording.at(layer), layout).mask
    return tokens, NeighborMean(isolated="keep").purify_tokens(tokens, mask, layout), mask[0]


def last_attention(inputs: Inputs, tokens: Tensor) -> Tensor:
    """Attention of the last block on such tokens, mean over heads: (T, T)."""
    with torch.no_grad():
        heads = inputs.backbone.blocks[-1].qkv(tokens)
    return attention_weights(heads.q.float(), heads.k.float()).mean(dim=1)[0]


def attention_of_patches(inputs: Inputs) -> Figure:
    matrix, chosen = attention(inputs, inputs.backbone.depth), queries(inputs, 5)
    cells = [image(inputs, head="queries", stars=[place_of(inputs, patch) for patch in chosen])]
    for patch in chosen:
        star = [place_of(inputs, patch)]
        cells.append(Cell(values=patch_row(inputs, matrix, patch), head=f"patch {patch}", stars=star))
    note = "Attention of the last block, mean over heads, of the patch at the star."
    return cell_grid({"attention": cells}, note=note, title=inputs.names[0])


def scatter(inputs: Inputs) -> Figure:
    tokens, _, mask = purified_tokens(inputs)
    layout = inputs.layout
    class_token = layout.class_token(tokens)[0].float().cpu().numpy() if layout.has_class_token else None
    patches = layout.patches(tokens)[0].float().cpu().numpy()
    title = f"layer {inputs.backbone.depth - 1}: {inputs.names[0]}"
    return token_scatter(patches, mask.cpu().numpy(), class_token, title=title)


def purification(inputs: Inputs) -> Figure:
    tokens, purified, mask = purified_tokens(inputs)
    layout = inputs.layout
    marked = mask_map(layout, mask)
    normal, odd = queries(inputs, 1)[0], int(mask.float().argmax()) if mask.any() else queries(inputs, 2)[1]
    rows: dict[str, list[Cell | None]] = {}
    for words, some in (("before", tokens), ("after", purified)):
        matrix = last_attention(inputs, some)
        means = folded(layout, layout.patches(some)[0].float().mean(dim=-1))
        rows[words] = [
            image(inputs, head="image", marked=marked),
            Cell(values=means, head="mean of channels", marked=marked, log=False),
            Cell(values=patch_row(inputs, matrix, normal), head=f"patch {normal} looks at",
                 stars=[place_of(inputs, normal)]),
            Cell(values=patch_row(inputs, matrix, odd), head=f"outlier {odd} looks at", stars=[place_of(inputs, odd)]),
        ]  # fmt: skip
    note = (
        f"Layer {inputs.backbone.depth - 1}: outliers by local outlier factor are outlined, and filled from their "
        "neighbors; attention is that of the last block, mean over heads."
    )
    return cell_grid(rows, shared=False, note=note, title=inputs.names[0])


def similarity_maps(inputs: Inputs) -> Figure:
    middle, depth = layer_at(inputs.backbone.depth, PRE, "line"), inputs.backbone.depth
    recording = inputs.record("block_out", layers=[middle, depth])
    rows: dict[str, list[Cell | None]] = {}
    encodings = inputs.encoded("sc-clip")
    for patch in queries(inputs, 3):
        star = [place_of(inputs, patch)]
        unit = torch.nn.functional.normalize(encodings[0].patches.float(), dim=-1)[0]
        own = folded(inputs.layout, unit @ unit[patch])
        rows[f"patch {patch}"] = [
            image(inputs, stars=star, head="image"),
            *(
                Cell(values=similarity_row(recording["block_out", layer], inputs.layout, patch), head=words, stars=star,
                     log=False)
                for layer, words in ((depth, f"last layer, {depth}"), (middle, f"middle layer, {middle}"))
            ),
            Cell(values=own, head="SC-CLIP", stars=star, log=False),
        ]  # fmt: skip
    note = "Cosine similarity to the patch at the star."
    return cell_grid(rows, shared=False, note=note, title=inputs.names[0])


def same_class_curves(inputs: Inputs, steps: dict[str, str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """ROC of same-class pairs of patches, pooled over the images: the last and a middle layer, and these methods."""
    if inputs.labels is None:
        raise ValueError("this figure compares pairs of labeled patches; give --labels DIR, or --scenes N.")
    model, depth, name = inputs.backbone, inputs.backbone.depth, shortened(inputs.model, NAME)
    middle = layer_at(depth, PRE, "line")
    total: dict[str, Tensor] = {}
    for number, labels in enumerate(inputs.labels):
        height, width = inputs.tensor(number).shape[-2:]
        size = int(height), int(width)
        known = patch_labels_at(labels, size, model.patch_size, ignore=(inputs.ignore,)).to(model.device)
        recording = inputs.record("block_out", layers=[middle, depth], number=number)
        features = {
            f"{name}, last layer ({depth})": inputs.layout.patches(recording["block_out", depth]),
            f"{name}, middle layer ({middle})": inputs.layout.patches(recording["block_out", middle]),
        }
        if steps:
            encodings = inputs.encoded(*steps.values(), number=number)
            features |= {step: one.patches for step, one in zip(steps, encodings, strict=True)}
        for what, patches in features.items():
            counts = pair_histogram(patches.float(), known)[0]
            total[what] = counts if what not in total else total[what] + counts
    curves = {what: roc_from_histogram(counts.cpu().numpy()) for what, counts in total.items()}
    return {what: curve for what, curve in curves.items() if np.isfinite(curve).all()}


def layer_roc(inputs: Inputs) -> Figure:
    curves = same_class_curves(inputs, {})
    if inputs.second is not None:
        from dataclasses import replace

        curves |= same_class_curves(replace(inputs, backbone=inputs.second, second=None), {})
    return named_roc(curves, title=f"same class? pairs of patches, {len(inputs.images)} images")


def step_roc(inputs: Inputs) -> Figure:
    curves = same_class_curves(inputs, STEPS)
    return named_roc(curves, title=f"same class? pairs of patches, {len(inputs.images)} images")


def self_adjusting(inputs: Inputs) -> Figure:
    _, purified, _ = purified_tokens(inputs)
    layout = inputs.layout
    pre = layer_at(inputs.backbone.depth, PRE, "line")
    patches = layout.patches(purified).float()
    affinity = similarity(layout.patches(inputs.record("block_out", layers=[pre])["block_out", pre]))
    adjusted = aggregate(thresholded(affinity, BETA), patches)
    weights = masked_softmax(affinity, shift=1.0, scale=3.0)  # SuleBai/SC-CLIP 0417ba9
    own = last_attention(inputs, purified)
    patch = queries(inputs, 1)[0]
    star = [place_of(inputs, patch)]
    before: list[Cell | None] = [
        image(inputs, head="image", stars=star),
        Cell(values=colors_of(layout, patches[0]), head="features"),
        Cell(values=patch_row(inputs, own, patch), head="attention", stars=star),
    ]
    after: list[Cell | None] = [
        None,
        Cell(values=colors_of(layout, adjusted[0]), head="aggregated features"),
        Cell(values=folded(layout, weights[0, patch]), head="enhanced attention", stars=star),
    ]
    note = f"Similarity is that of layer {pre}. Colors are three principal components and do not compare between maps."
    return cell_grid({"before": before, "after": after}, shared=False, note=note, title=inputs.names[0])


def shallow_and_deep(inputs: Inputs) -> Figure:
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


def _asked(inputs: Inputs) -> list[int]:
    """Numbers of at most four words: those that the image shows, the largest first, where it has labels."""
    names = inputs.words.names
    seen: list[int] = []
    if inputs.labels is not None:
        numbers, areas = np.unique(inputs.labels[0], return_counts=True)
        seen = [int(numbers[place]) for place in np.argsort(-areas, kind="stable")]
        seen = [number for number in seen if number != inputs.ignore and 0 <= number < len(names)]
    return [*seen, *(number for number in range(len(names)) if number not in seen)][:4]


def prompts(inputs: Inputs) -> Figure:
    """Heat maps of four words by CLIP and by SC-CLIP; each map from 0 to 1."""
    text, rows = inputs.words, {}
    chosen = _asked(inputs)
    size = inputs.tensor().shape[-2:]
    for spec, encoding in zip(("clip", "sc-clip"), inputs.encoded("clip", "sc-clip"), strict=True):
        unit = torch.nn.functional.normalize(encoding.patches.float(), dim=-1)
        cosines = (unit @ text.features.to(unit).mT).cpu()
        best = torch.stack([cosines[..., text.owners.cpu() == number].amax(dim=-1) for number in chosen], 2)
        maps = heat_maps(encoding.layout.to_map(best).permute(0, 3, 1, 2), (size[0], size[1]))[0].numpy()
        cells: list[Cell | None] = [Cell(values=inputs.seen(), head="image")]
        heads = [text.names[number] for number in chosen]
        cells += [Cell(values=one, head=head) for head, one in zip(heads, maps, strict=True)]
        rows[spec] = cells
    note = "Cosine with the word, each map stretched from 0 to 1."
    return cell_grid(rows, limits=(0, 1), note=note, title=inputs.names[0])


def performance(inputs: Inputs) -> Figure:
    return scores_beside_printed(inputs, SHEET_ALONE, ("sc-clip/table-1-b16",))


qualitative = functools.partial(sheet, methods=SHEET_ALONE)

FIGURES = {
    "fig-1": PaperFigure(
        draw=performance,
        shows="mIoU of CLIP, MaskCLIP, SCLIP, ClearCLIP and SC-CLIP, beside the printed numbers",
        claim="SC-CLIP is above the others on all eight data sets",
        needs=("labels", "words"),
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
        shows="similarity to patches in the last and a middle layer, and of SC-CLIP",
        claim="middle layers are coherent where the last one is not",
        each=True,
    ),
    "fig-4-roc": PaperFigure(
        draw=layer_roc,
        shows="ROC of same-class pairs: last and middle layer, of two backbones with --second",
        claim="AUC 0.66 last, 0.76 middle, DINO 0.77",
        needs=("labels",),
    ),
    "fig-5": PaperFigure(
        draw=self_adjusting,
        shows="features before and after aggregation, and attention from similarity",
        claim="features become coherent, attention follows objects",
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
        shows="ROC of same-class pairs, step by step from the baseline to SC-CLIP",
        claim="AUC 0.66, 0.76, then 0.69, 0.74, 0.80, 0.81",
        needs=("labels",),
    ),
    "fig-9": PaperFigure(
        draw=prompts, shows="heat maps of four words, by CLIP and SC-CLIP", each=True, needs=("words",)
    ),
    "fig-10": PaperFigure(draw=qualitative, shows="more images of fig-6", each=True, needs=("words",)),
}  # fmt: skip
