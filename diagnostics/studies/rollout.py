"""Attention rollout: where attention leads through all blocks, as it is or weighted by values."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import numpy as np
import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.images.feed import Loaded, Loader, list_images, stacked
from diagnostics.layout import Layout
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.studies.blocks import work_on_blocks
from diagnostics.studies.purified_features import Maps, _stacked
from diagnostics.taps import EachLayer, Recording, resolve_layer

Weigh = Literal["attention", "values"]


def rollout(
    backbone: Backbone,
    images: Any,
    *,
    layer: int = -1,
    query: Literal["class", "mean"] | tuple[int, int] = "class",
    weigh: Weigh = "attention",
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> Maps:
    """Where attention leads from a layer back to the patches of the input, through all blocks and their residuals.

    Parameters
    ----------
    backbone
        The model, from `load_backbone`.
    images
        Files, folders, globs, PIL images or arrays (h, w, 3) uint8, one or many.
    layer
        Layer 1…L (or negative, -1 the last) that attention is followed back from.
    query
        `class`, the class token; `mean`, the mean over patches; or (row, col), a patch.
    weigh
        `attention`, as it is; or `values`: each key's attention times the norm of its value, rows brought to sum 1.
    options, **keywords
        Options of the run: `size`, `batch`, `progress`; see RunOptions.

    Returns
    -------
    numpy.ndarray or list of numpy.ndarray
        float32 (N, rows, cols), shares of the whole; what goes to prefix tokens is left out, so a map sums to at most
        1. A list where images have several grids.

    Raises
    ------
    ValueError
        For a layer or patch that is not there, and for the class token of a model without one.

    Source
    ------
    Abnar and Zuidema 2020, arXiv:2005.00928, Sec 3: half attention (mean over heads), half identity, multiplied up.
    Weighing by values is ours, after Kobayashi et al. 2020, arXiv:2004.10102.

    Examples
    --------
    >>> import numpy as np, attention_outliers as ao
    >>> image = np.full((64, 64, 3), 128, np.uint8)
    >>> maps = ao.rollout(ao.load_backbone("tiny"), image)
    >>> maps.shape, bool(maps.sum() <= 1 + 1e-6)
    ((1, 4, 4), True)
    """
    options = run_options("rollout", options, keywords, uses=("size", "batch", "progress")).changed(strict=True)
    last = resolve_layer(layer, backbone.depth)
    if last < 1:
        raise ValueError(f"`layer` should be a block, 1…{backbone.depth}; got {layer}.")
    if weigh not in ("attention", "values"):
        raise ValueError(f"`weigh` should be `attention` or `values`; got `{weigh}`.")
    listed = list_images(images, options.size_for(backbone.native_size), strict=True)
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=True)

    def work(batch: list[Loaded]) -> np.ndarray:
        pixels = stacked(batch)
        layout = backbone.layout(pixels)
        flow = _Flow(weigh)
        with torch.no_grad():
            backbone.trunk(pixels, stop=last, tap=EachLayer(dict.fromkeys(range(1, last + 1), flow.needs), flow.look))
        rows = _row(flow.matrix, query, layout)
        maps: np.ndarray = layout.to_map(layout.patches(rows)).cpu().numpy()
        return maps

    maps: list[np.ndarray] = [np.empty(0)] * len(listed)
    for block in work_on_blocks(loader, work, options, title=f"rollout {backbone.spec}"):
        for batch, batch_maps in block.batches:
            for place, image in enumerate(batch):
                maps[image.number] = batch_maps[place]
    return _stacked(maps)


class _Flow:
    """The product of all blocks' attention so far: (B, T, T), rows sum to 1."""

    def __init__(self, weigh: Weigh) -> None:
        self.weigh = weigh
        self.needs = {"attention"} if weigh == "attention" else {"attention", "value"}
        self.matrix = torch.empty(0)

    def look(self, layer: int, recording: Recording) -> None:
        weights = recording["attention", layer].float()
        if self.weigh == "values":
            weights = weights * recording["value", layer].float().norm(dim=-1)[:, :, None]
        mean = weights.mean(dim=1)
        mean = mean / mean.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(mean.dtype).tiny)
        step = (mean + torch.eye(mean.shape[-1], device=mean.device)) / 2
        self.matrix = step @ self.matrix if self.matrix.numel() else step


def _row(matrix: Tensor, query: Any, layout: Layout) -> Tensor:
    """The row of a query: (B, T, T) -> (B, T)."""
    if query == "class":
        return layout.class_token(matrix)
    if query == "mean":
        return layout.patches(matrix).mean(dim=1)
    if not (isinstance(query, tuple) and len(query) == 2):
        raise ValueError(f"`query` should be `class`, `mean` or (row, col); got {query!r}.")
    row, col = query
    if not (0 <= row < layout.grid.rows and 0 <= col < layout.grid.cols):
        raise ValueError(f"`query` should lie in the grid of {layout.grid.rows}x{layout.grid.cols}; got {query}.")
    return matrix[:, layout.prefix + row * layout.grid.cols + col]
