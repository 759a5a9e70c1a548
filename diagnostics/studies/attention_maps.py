"""Attention of one image at one layer as an array."""

from __future__ import annotations

from typing import Any, Literal, Unpack

import numpy as np
import torch

from diagnostics.backbones.base import Backbone, attention_weights
from diagnostics.images.feed import Loader, list_images
from diagnostics.layout import Layout
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.studies.scoring import block_layers, check_finite
from diagnostics.tap_places import ATTENTION_PARTS
from diagnostics.taps import Recorder

Query = Literal["class"] | tuple[int, int]


def attention(
    backbone: Backbone,
    image: Any,
    *,
    layer: int = -1,
    head: int | None = None,
    query: Query | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> np.ndarray:
    """Attention of a layer's head after softmax: the whole matrix, or one token's map over the patches.

    Parameters
    ----------
    backbone
        The model, from `load_backbone`.
    image
        One file, PIL image or array (h, w, 3) uint8.
    layer
        Layer 1…L, or negative, -1 the last.
    head
        Head 0…H-1, numbered from 0 as in the data sets of `probe`; None is the mean over heads.
    query
        None for the matrix. `(row, col)` of a patch, from 0, top left, or `class` for the class token: what that
        token looks at, over the patches.
    options, **keywords
        Options of the run: `size`, `positions`; see RunOptions.

    Returns
    -------
    numpy.ndarray
        float32 in [0, 1]. The matrix (T, T): rows are queries and sum to 1; T counts prefix tokens first (class token,
        registers), then the patches row by row. With `query` a map (rows, cols); its sum is 1 less what the token
        gives to the prefix tokens.

    Raises
    ------
    ValueError
        For a layer, head or patch that is not there, `class` on a model without a class token, more than one image,
        an image that can't be read, and NaN or infinite values.

    Source
    ------
    softmax(q·kᵀ/√d): Dosovitskiy et al. 2021, arXiv:2010.11929; softmax in fp32.

    Examples
    --------
    >>> import numpy as np, attention_outliers as ao
    >>> backbone, image = ao.load_backbone("tiny"), np.zeros((64, 96, 3), np.uint8)
    >>> ao.attention(backbone, image, layer=9, head=1, size="native").shape
    (25, 25)
    >>> ao.attention(backbone, image, layer=9, head=1, query=(0, 5), size="native").shape
    (4, 6)
    """
    options = run_options("attention", options, keywords, uses=("size", "positions"))
    (layer,) = block_layers([layer], backbone.depth)
    if head is not None and (isinstance(head, bool) or not 0 <= head < backbone.heads):
        raise ValueError(f"`head` should be from 0 to {backbone.heads - 1}, or None for the mean; got {head!r}.")
    listed = list_images(image, options.size_for(backbone.native_size), strict=True)
    if len(listed) != 1:
        raise ValueError(f"`image` should be one image; got {len(listed)}. Ask for one after another.")
    layout = backbone.layout(listed[0].size)
    token = None if query is None else _token(query, layout)
    pixels = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=True)(0).image
    if pixels is None:
        raise ValueError(f"the image `{listed[0].name}` can't be opened.")
    recorder = Recorder(*ATTENTION_PARTS, layers=[layer])
    with torch.no_grad():
        backbone.trunk(pixels[None], stop=layer, tap=recorder, positions=options.positions)
    heads = slice(None) if head is None else slice(head, head + 1)
    rows = slice(None) if token is None else slice(token, token + 1)
    q, k = (recorder[name][:, heads].float() for name in ("query", "key"))
    bias = recorder.recording.get("attention_bias")
    bias = None if bias is None else bias[:, heads, rows].float()
    weights = attention_weights(q[:, :, rows], k, bias).mean(dim=1)  # (1, t, T)
    check_finite(weights, [listed[0].name], "attention weights", layer)
    if token is not None:
        return layout.to_map(layout.patches(weights, dim=2), dim=2)[0, 0].cpu().numpy()
    return weights[0].cpu().numpy()


def _token(query: Query, layout: Layout) -> int:
    """The place of the class token or of a patch (row, col) in the sequence."""
    if query == "class":
        if layout.class_index is None:
            raise ValueError("this model has no class token; ask for a patch: query=(row, col).")
        return layout.class_index
    inside = isinstance(query, tuple) and len(query) == 2
    inside = inside and all(0 <= place < side for place, side in zip(query, layout.grid, strict=True))
    if not inside:
        raise ValueError(
            f"`query` should be `class` or (row, col) within {layout.grid.rows} rows and {layout.grid.cols} columns "
            f"of patches; got {query!r}."
        )
    row, col = query
    return layout.prefix + int(row) * layout.grid.cols + int(col)
