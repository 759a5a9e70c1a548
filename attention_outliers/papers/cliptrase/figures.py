"""The figures of CLIPtrase (Shao et al., ECCV 2024)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from attention_outliers.papers.figure_maps import (
    GLOBAL,
    attention,
    class_row,
    cluster_colors,
    folded,
    heads_of,
    image,
    mask_map,
    named_after,
    patch_row,
    place_of,
    queries,
    received_attention,
    striped_layer,
    tinted,
)
from attention_outliers.papers.figure_maps import (
    global_patches as global_patches_of,
)
from attention_outliers.papers.inputs import FigureInputs, PaperFigure
from attention_outliers.papers.score_comparison import scores_beside_printed
from diagnostics.images.class_colors import class_colors
from figures.maps.cell_grid import Cell, cell_grid
from figures.maps.label_maps import legend_of
from figures.tables.landscape import landscape
from segment.decoding.masks.dbscan import Dbscan, density_settings
from segment.encoders.correlation import correlation_map
from segment.encoders.encode_many import encode_many
from segment.methods import METHODS

NTH = 90  # Fig 2: the patch whose map is shown at 14 x 14
EPS = (0.5, 0.6, 0.7, 0.8, 0.9)  # Fig 7: our choice, around the released 0.7
FEWEST = (2, 3, 5, 7, 9)
MOST_IMAGES = 4
LOCAL_PATCH, GLOBAL_PATCH = "local patch", "global patch"


def recovered(inputs: FigureInputs, number: int = 0) -> Tensor:
    """The semantic correlation of the last block (Eq 3): (T, T), in [-1, 1]."""
    layer = inputs.backbone.depth
    tokens = inputs.record("block_in", layers=[layer], number=number)["block_in", layer]
    return correlation_map(heads_of(inputs, tokens, layer)[:3])[0]


def _pair(
    inputs: FigureInputs, patch: int, number: int, before: Tensor, after: Tensor, head: str = ""
) -> list[Cell | None]:
    star = [place_of(inputs, patch)]
    return [
        image(inputs, number, head=head or f"patch {patch}", stars=star),
        Cell(values=patch_row(inputs, before, patch), head="attention", stars=star),
        Cell(values=patch_row(inputs, after, patch), head="SCR", stars=star, log=False),
    ]


NOTE_PAIR = "Last block. Left: attention, mean over heads. Right: recovered correlation of q-q, k-k and v-v, cosine."


def patches_before_after(inputs: FigureInputs) -> Figure:
    before, after = attention(inputs, inputs.backbone.depth), recovered(inputs)
    rows = {f"patch {patch}": _pair(inputs, patch, 0, before, after, "image") for patch in queries(inputs, 4)}
    return cell_grid(rows, shared=False, note=NOTE_PAIR, title=inputs.names[0])


def before_after(inputs: FigureInputs) -> Figure:
    rows: dict[str, list[Cell | None]] = {}
    for number, name in enumerate(inputs.names[:MOST_IMAGES]):
        before, after = attention(inputs, inputs.backbone.depth, number), recovered(inputs, number)
        rows[name] = [cell for patch in queries(inputs, 2) for cell in _pair(inputs, patch, number, before, after)]
    return cell_grid(rows, shared=False, note=NOTE_PAIR, title=f"before and after SCR, {inputs.model}")


def global_patches(inputs: FigureInputs) -> Figure:
    layers = inputs.layers(3, 6, 9, 11, 12)
    maps = {layer: attention(inputs, layer) for layer in layers}
    patch = NTH if inputs.layout.count > NTH else queries(inputs, 1)[0]
    star = [place_of(inputs, patch)]
    prefix = inputs.layout.prefix
    rows: dict[str, list[Cell | None]] = {
        "between patches": [
            image(inputs, head="image", stars=star),
            *(
                Cell(values=maps[layer][prefix:, prefix:].cpu().numpy(), head=f"layer {layer}", log=True)
                for layer in layers
            ),
        ]
    }
    if inputs.layout.has_class_token:
        rows["of the class token"] = [image(inputs), *(Cell(values=class_row(inputs, maps[layer])) for layer in layers)]
    rows[f"of patch {patch}"] = [
        image(inputs, stars=star),
        *(Cell(values=patch_row(inputs, maps[layer], patch), stars=star) for layer in layers),
    ]
    note = (
        "Attention, mean over heads; rows of the upper maps look at columns. A bright column is a patch that all see."
    )
    return cell_grid(rows, note=note, title=inputs.names[0])


def clusters_of(inputs: FigureInputs, number: int, spec: str) -> Tensor:
    encoding = encode_many(inputs.backbone, inputs.tensor(number), [spec])[0]
    # The same eps before and after, as the paper has it, though a denoised affinity has smaller distances.
    return Dbscan().clusters(encoding).labels[0]


def clusters(inputs: FigureInputs) -> Figure:
    rows: dict[str, list[Cell | None]] = {}
    maps: list[np.ndarray] = []
    denoise = METHODS["cliptrase"].settings()["denoise"] if inputs.layout.has_class_token else "self"
    for number, name in enumerate(inputs.names[:MOST_IMAGES]):
        before, after = (
            folded(inputs.layout, clusters_of(inputs, number, f"cliptrase:denoise={how}")).astype(int)
            for how in ("none", denoise)
        )
        after = named_after(after, before)
        counts = [len(np.unique(labels[labels >= 0])) for labels in (before, after)]
        shades = cluster_colors(np.concatenate([before, after]))
        boxed = mask_map(inputs.layout, global_patches_of(inputs, number))
        rows[name] = [
            image(inputs, number, head="image", boxed=boxed),
            Cell(values=shades[: len(before)], head=f"{counts[0]} clusters", boxed=boxed),
            Cell(values=shades[len(before) :], head=f"denoised: {counts[1]}", boxed=boxed),
        ]
        if inputs.text is not None:
            labels = inputs.label_maps("cliptrase", number=number)["cliptrase"]
            maps.append(labels)
            rows[name].append(Cell(values=tinted(inputs, labels, number), head="segmentation", grid=inputs.grid))
    eps, fewest = density_settings(inputs.layout.count)
    note = (
        f"DBSCAN of the patches' correlations, eps {eps:.2g}, {fewest} samples; white is noise. Clusters that share "
        "most of their patches have one color before and after. Red: global patches, which receive more than "
        f"{GLOBAL:g} times an even share of attention at layer {last_two(inputs)}, where one stands out more."
    )
    legend = legend_of(maps, inputs.words.names, class_colors(len(inputs.words.names))) if maps else ()
    return cell_grid(rows, shared=False, legend=legend, note=note, title=f"clusters, {inputs.model}")


def last_two(inputs: FigureInputs) -> str:
    """«11 or 12»: the layers that `striped_layer` chooses from."""
    return " or ".join(map(str, inputs.layers(11, 12)))


def local_and_global(inputs: FigureInputs) -> Figure:
    """The patch that all look at, at layer 11 or 12 of 12, and the one that least look at."""
    received = received_attention(inputs, striped_layer(inputs))
    before, after = attention(inputs, inputs.backbone.depth), recovered(inputs)
    chosen = {LOCAL_PATCH: int(received.argmin()), GLOBAL_PATCH: int(received.argmax())}
    rows = {words: _pair(inputs, patch, 0, before, after) for words, patch in chosen.items()}
    return cell_grid(rows, shared=False, note=NOTE_PAIR, title=inputs.names[0])


def density_table(inputs: FigureInputs) -> pd.DataFrame:
    """mIoU in per cent, eps by min_samples."""
    specs = {
        (eps, fewest): f"cliptrase:masks=dbscan(eps={eps},min_samples={fewest})" for eps in EPS for fewest in FEWEST
    }
    scores = inputs.scored(list(specs.values()))
    return pd.DataFrame({fewest: {eps: scores[specs[eps, fewest]] for eps in EPS} for fewest in FEWEST})


def density_landscape(inputs: FigureInputs) -> Figure:
    value = f"mIoU, per cent, {len(inputs.images)} images"
    table, title = density_table(inputs), inputs.model
    return landscape(table, xlabel="min_samples", ylabel="eps", value=value, digits=1, title=title)


def performance(inputs: FigureInputs) -> Figure:
    return scores_beside_printed(inputs, ("clip", "cliptrase"), ("cliptrase/table-1",))


FIGURES = {
    "fig-1a": PaperFigure(
        draw=performance,
        shows="mIoU of CLIP and CLIPtrase, beside the printed numbers",
        claim="CLIPtrase is far above CLIP on all nine data sets",
        needs=("labels", "words"),
    ),
    "fig-1b": PaperFigure(
        draw=patches_before_after,
        shows="what several patches look at, in CLIP and after semantic correlation recovery",
        claim="CLIP's maps are alike for all patches; SCR's are about the patch",
        each=True,
    ),
    "fig-2": PaperFigure(
        draw=global_patches,
        shows="attention between patches, of the class token and of one patch, over layers",
        claim="bright stripes from about layer 6; a patch's map looks like the class token's",
        each=True,
    ),
    "fig-4": PaperFigure(
        draw=before_after,
        shows="attention of patches before and after SCR, several images",
        claim="after SCR a patch sees its own object",
    ),
    "fig-5": PaperFigure(
        draw=clusters,
        shows="clusters of patches before and after denoising, global patches in red boxes",
        claim="a cluster of global patches disappears",
    ),
    "fig-6": PaperFigure(
        draw=local_and_global,
        shows="correlation of a local and of a global patch",
        claim="global patches correlate with each other",
        each=True,
    ),
    "fig-7": PaperFigure(
        draw=density_landscape,
        shows="mIoU over eps and min_samples of DBSCAN",
        claim="mostly above 75 on VOC20, 81.01 at best",
        needs=("labels", "words"),
    ),
    "fig-9": PaperFigure(
        draw=before_after,
        shows="fig-4 with the next images",
        claim="as fig-4; the larger the background, the more global patches",
        continues="fig-4",
        most=MOST_IMAGES,
    ),
    "fig-10": PaperFigure(
        draw=clusters, shows="fig-5 with the next images", claim="as fig-5", continues="fig-5", most=MOST_IMAGES
    ),
}
