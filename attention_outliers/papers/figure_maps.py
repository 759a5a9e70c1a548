"""Maps of one image that several figures show: attention, features as numbers and as colors, label maps."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from matplotlib.colors import Normalize
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from attention_outliers.papers.inputs import FigureInputs
from diagnostics.backbones.base import QKV, recorded_attention
from diagnostics.images.class_colors import class_colors
from diagnostics.layout import Layout
from diagnostics.measures.pca import principal_components
from diagnostics.tap_places import ATTENTION_PARTS
from figures.maps.cell_grid import Cell
from figures.maps.label_maps import colored
from figures.maps.layer_maps import pca_colors
from figures.maps.scales import color_scale

# Attention received over that of the median patch, above which a map is said to have stripes. Our choice.
STRIPES = 5.0
# Attention received over an even share, above which a patch is called global. Our choice.
GLOBAL = 5.0
METHOD_SHEET = (
    "clip", "maskclip", "sclip", "clearclip", "naclip", "clip-surgery", "gem", "cliptrase", "sc-clip", "sfp",
)  # fmt: skip


def image(inputs: FigureInputs, number: int = 0, **more: Any) -> Cell:
    """The image as the backbone sees it, with room for stars and marks."""
    return Cell(values=inputs.pixels(number), grid=inputs.grid, **more)


def folded(layout: Layout, patches: Tensor) -> np.ndarray:
    """(N) -> (rows, cols) as an array."""
    return np.asarray(layout.to_map(patches[None].float().cpu())[0])


def attention(inputs: FigureInputs, layer: int, number: int = 0) -> Tensor:
    """Attention of one image, mean over heads: (T, T)."""
    recording = inputs.record(*ATTENTION_PARTS, layers=[layer], number=number)
    return recorded_attention(recording, layer).mean(dim=1)[0]


def heads_of(inputs: FigureInputs, tokens: Tensor, layer: int) -> QKV:
    """Queries, keys and values of a block on such tokens."""
    with torch.no_grad():
        return inputs.backbone.blocks_on(inputs.layout)[layer - 1].qkv(tokens)


def patch_row(inputs: FigureInputs, matrix: Tensor, patch: int) -> np.ndarray:
    """What one patch has with every patch, from a whole map (T, T): (rows, cols)."""
    return folded(inputs.layout, inputs.layout.patches(matrix[None], dim=2)[0, inputs.layout.prefix + patch])


def class_row(inputs: FigureInputs, matrix: Tensor) -> np.ndarray:
    """What the class token has with every patch; ValueError where there is none."""
    layout = inputs.layout
    if not layout.has_class_token:
        raise ValueError(f"`{inputs.backbone.spec}` has no class token; take a figure without its attention.")
    return folded(layout, layout.patches(matrix[None], dim=2)[0, layout.class_index])


def queries(inputs: FigureInputs, count: int = 3) -> list[int]:
    """Patches to ask about: the middle, then towards the corners. Our choice; papers pick by eye or at random."""
    rows, cols = inputs.grid
    places = [(0.5, 0.5), (0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25)][:count]
    return [min(int(rows * y), rows - 1) * cols + min(int(cols * x), cols - 1) for y, x in places]


def place_of(inputs: FigureInputs, patch: int) -> tuple[int, int]:
    """(row, col) of a patch."""
    return divmod(patch, inputs.grid[1])


def colors_of(layout: Layout, patches: Tensor) -> np.ndarray:
    """Features (N, D) as colors, their first three principal components: (rows, cols, 3) in [0, 1]."""
    components = principal_components(patches[None].float().cpu())
    scores = layout.to_map(components.scores)[0]
    return pca_colors(np.asarray(scores.permute(2, 0, 1)))


def tinted(inputs: FigureInputs, labels: np.ndarray, number: int = 0) -> np.ndarray:
    """The image with the colors of its labels."""
    return colored(inputs.images[number], labels, class_colors(len(inputs.words.names)))


def cluster_colors(labels: np.ndarray) -> np.ndarray:
    """Clusters (rows, cols), -1 for noise, as colors (rows, cols, 3): noise white, the rest far apart."""
    palette = class_colors(int(labels.max(initial=0)) + 2)[1:] / 255
    return np.where((labels >= 0)[..., None], palette[np.maximum(labels, 0)], 1.0).astype(np.float32)


def named_after(labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Clusters (rows, cols), -1 for noise, with the numbers of the clusters of `others` that they share most with.

    Each number is given once, so that the patches in common are as many as can be (the Hungarian method); a cluster
    that has none takes a new number.
    """
    mine, theirs = np.unique(labels[labels >= 0]), np.unique(others[others >= 0])
    shared = np.array([[np.sum((labels == a) & (others == b)) for b in theirs] for a in mine]).reshape(
        len(mine), len(theirs)
    )
    named = {
        int(mine[i]): int(theirs[j]) for i, j in zip(*linear_sum_assignment(-shared), strict=True) if shared[i, j] > 0
    }
    fresh = itertools.count(int(others.max(initial=-1)) + 1)
    renamed = np.full_like(labels, -1)
    for cluster in mine.tolist():
        renamed[labels == cluster] = named[cluster] if cluster in named else next(fresh)
    return renamed


def global_patches(inputs: FigureInputs, number: int = 0) -> Tensor:
    """Patches that all look at, (N) bool: at `striped_layer` they receive far more attention than an even share.

    CLIPtrase calls them global and gives no rule; ours is `GLOBAL`.
    """
    received = received_attention(inputs, striped_layer(inputs, number), number)
    return received > GLOBAL * received.mean()


def striped_layer(inputs: FigureInputs, number: int = 0) -> int:
    """Layer 11 or 12 of 12: that in which one patch of an image has the larger share of the attention of patches.

    CLIPtrase speaks of 11 and draws 12. Which of them has the outliers' stripes differs from model to model.
    """
    received = {layer: received_attention(inputs, layer, number) for layer in inputs.layers(11, 12)}
    return max(received, key=lambda layer: float(received[layer].max() / received[layer].mean()))


def received_attention(inputs: FigureInputs, layer: int, number: int = 0) -> Tensor:
    """What patches receive from patches, mean over heads: (N)."""
    layout = inputs.layout
    return layout.patches(layout.patches(attention(inputs, layer, number)[None], dim=1), dim=2)[0].mean(dim=0)


def shared_scale(*maps: np.ndarray, log: bool | None = None) -> Normalize:
    """One color scale for maps that are to be compared."""
    return color_scale(np.concatenate([np.ravel(values) for values in maps]), log)


def similarity_row(tokens: Tensor, layout: Layout, patch: int) -> np.ndarray:
    """Cosine of a patch with all patches: (1, T, D) -> (rows, cols)."""
    unit = torch.nn.functional.normalize(layout.patches(tokens).float(), dim=-1)[0]
    return folded(layout, unit @ unit[patch])


def mask_map(layout: Layout, mask: Tensor) -> np.ndarray:
    """(N) bool -> (rows, cols) bool."""
    return folded(layout, mask) > 0.5
