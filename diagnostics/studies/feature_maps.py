"""Features of every patch as arrays, purified or as they are, for a probe of one's own."""

from __future__ import annotations

from typing import Any, Unpack

from diagnostics.backbones.base import Backbone
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.studies.purified_features import OPTIONS, Maps, Purification, layer_maps, parse_purification


def features(
    backbone: Backbone,
    images: Any,
    *,
    layer: int = -1,
    purify: Purification | None = None,
    purify_at: int | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> Maps:
    """Features of every patch of every image: the block output of a layer, folded into maps.

    For a linear probe on patches, a row for each: `maps.reshape(-1, maps.shape[-1])`, in the order of images, rows,
    columns. On whole images, the mean over patches: `maps.mean(axis=(1, 2))`. Of a list of maps (images of several
    sizes): `np.concatenate([map.reshape(-1, map.shape[-1]) for map in maps])`.

    Parameters
    ----------
    backbone
        The model, from `load_backbone`.
    images
        Files, folders, globs, PIL images or arrays (h, w, 3) uint8, one or many. All features are held in memory; for
        more images than fit, `encode` writes a file.
    layer
        Layer 1…L (or negative, -1 the last); 0 is the embedding.
    purify
        `DETECTOR + PURIFIER`, such as `relative-norm + neighbor-mean`, or the pair; None leaves features as they are.
    purify_at
        Layer whose block output is purified. None is `layer` itself: in place. An earlier one is propagated: the
        blocks after it compute with the purified patches.
    options, **keywords
        Options of the run: `size`, `batch`, `progress`; see RunOptions.

    Returns
    -------
    numpy.ndarray or list of numpy.ndarray
        float32 (N, rows, cols, D) in model units; a list of (rows, cols, D) where images have several grids, as with
        `size="native"` or `short:336`. N = 1 for a single image. Prefix tokens are left out.

    Raises
    ------
    ValueError
        For unknown parts or layers, parts that can't run on this model, an image that can't be read (rows must stay
        in step with the images), and NaN or infinite values.

    Source
    ------
    The block output before any final norm or projection; purification as in `purify`.

    Examples
    --------
    >>> import numpy as np, attention_outliers as ao
    >>> from sklearn.linear_model import LogisticRegression
    >>> images = np.zeros((4, 64, 64, 3), np.uint8)
    >>> images[2:] = 255
    >>> backbone = ao.load_backbone("tiny")
    >>> maps = ao.features(backbone, list(images), layer=8, purify="relative-norm + neighbor-mean")
    >>> maps.shape
    (4, 4, 4, 48)
    >>> rows, labels = maps.reshape(-1, 48), np.repeat([0, 0, 1, 1], 16)
    >>> LogisticRegression(max_iter=1000).fit(rows, labels).score(rows, labels)
    1.0
    """
    options = run_options("features", options, keywords, uses=OPTIONS)
    parts = None if purify is None else parse_purification(purify)
    return layer_maps(backbone, images, layer, parts, purify_at, options).features
