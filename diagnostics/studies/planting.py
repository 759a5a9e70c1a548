"""Detectors on images with outliers planted at known places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
import xarray as xr

from diagnostics.backbones.base import Backbone
from diagnostics.edits.plant import Plant, channel_vector, outlier_vector
from diagnostics.images.feed import Loader, list_images
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.options import RunKeywords, RunOptions, SizeLike, run_options
from diagnostics.studies.scoring import (
    IMAGES_TO_FIT,
    Detectors,
    Fitted,
    fit_detectors,
    named_detectors,
    score_images,
)
from diagnostics.studies.truth import truth_table
from diagnostics.taps import resolve_layer


def planted_scores(
    backbone: Backbone,
    images: Any,
    detectors: Detectors,
    counts: Sequence[int],
    *,
    clustered: bool = False,
    seed: int = 0,
    fitted: Fitted | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> Iterator[tuple[Plant, xr.Dataset]]:
    """Scores of images with outliers planted after the first of `layers`, for each count in turn.

    Detectors that learn did so on the images as they are: `fitted`, or the first of them.

    Patches that are outliers of the model's own (norm above 3 x the median, our choice) are taken out of `inside`:
    a detector that marks them is not wrong, and they are not what was planted. At the very layer where they are put,
    detectors that look at what comes before the block's output, such as its attention, can't see them: their scores
    are nan there, and they mark nothing.

    Options of the run: `layers`, `size`, `batch`, `progress`.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    detectors : str, Detector, or list of them
        Specs such as `"lof:neighbors=10"`, or detectors.
    counts : list of int
        How many outliers are planted into each image, for each run.
    clustered : bool
        Outliers side by side, or scattered.
    seed : int
        Chooses the random places.
    fitted : dict or None
        Detectors that have learned already, from `ao.fit_detectors`; None lets them learn on the first images.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of `ao.RunOptions`, which go over `options`: `size`, `batch`, `layers`, `strict`, `progress` …, as
        far as they apply.

    Yields
    ------
    (Plant, xarray.Dataset)
        What was planted, and scores as `ao.score_images` gives them, with `planted` (image, row, col).

    Raises
    ------
    ValueError
        For parts and layers that do not fit.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> plant, scores = next(ao.planted_scores(backbone, scenes, ["norm"], [2], layers=[-1]))
    >>> int(scores["planted"].sum())  # two in each of two images
    4
    """
    options = run_options("planted_scores", options, keywords, uses=("layers", "size", "batch", "progress"))
    if not counts:
        return
    options, first = _from_first_layer(options, backbone.depth)
    vector = planted_vector(backbone, images, first, size=options.size)
    if fitted is None:
        fitted = fit_detectors(backbone, images, detectors, layers=options.layers, size=options.size)
    unchanged = score_images(backbone, images, ["relative-norm"], fitted=fitted, options=options)
    natural = unchanged["marked"].isel(detector=0).any("layer")
    blind = [name for name, part in named_detectors(detectors).items() if "block_out" not in part.needs]
    for count in counts:
        plant = Plant(vector=vector, layers=(first,), count=count, clustered=clustered, seed=seed)
        scores = score_images(backbone, images, detectors, plant=plant, fitted=fitted, options=options)
        scores["inside"] = scores["inside"] & (scores["planted"] | ~natural.values)
        if first in scores["layer"].values:
            unseen = {"detector": blind, "layer": first}
            scores["score"].loc[unseen], scores["marked"].loc[unseen] = np.nan, False
        yield plant, scores


def _from_first_layer(options: RunOptions, depth: int) -> tuple[RunOptions, int]:
    """The options with no layer before that of the planting, and this layer: the first asked for, or the middle."""
    if options.layers is None:
        first = 1 + depth // 2
        return options.changed(layers=range(first, depth + 1)), first
    return options, min(resolve_layer(layer, depth) for layer in options.layers)


def planted_truth(
    backbone: Backbone, images: Any, detectors: Detectors, counts: Sequence[int], **options: Any
) -> pd.DataFrame:
    """Detectors against planted outliers: `truth_table` for each count, with columns `planted` and `clustered`.

    `options` are those of `planted_scores`.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    detectors : str, Detector, or list of them
        Specs such as `"lof:neighbors=10"`, or detectors.
    counts : list of int
        How many outliers are planted into each image, for each run.
    **options
        As for `ao.planted_scores`.

    Returns
    -------
    pandas.DataFrame
        As `ao.truth_table`, with columns `planted` and `clustered`.

    Raises
    ------
    ValueError
        For parts and layers that do not fit.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> table = ao.planted_truth(backbone, scenes, ["norm"], [2], layers=[-1])
    >>> int(table["planted"][0])
    2
    """
    tables = [
        truth_table(scores, scores["planted"]).assign(planted=plant.count, clustered=plant.clustered)
        for plant, scores in planted_scores(backbone, images, detectors, counts, **options)
    ]
    return pd.concat(tables, ignore_index=True)


def planted_vector(backbone: Backbone, images: Any, layer: int, *, size: SizeLike | None = None) -> tuple[float, ...]:
    """What to plant after a layer: the model's own outlier there, or one made of its two largest channels.

    Where the first images have no outlier of their own, the two channels of largest peak get ten times the median
    patch norm (our choice).
    """
    listed = list_images(images, RunOptions(size=size).size_for(backbone.native_size), strict=False)
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size)
    first_images = [image.image for image in map(loader, range(min(IMAGES_TO_FIT, len(listed))))]
    opened = [pixels for pixels in first_images if pixels is not None]
    pixels = torch.stack([image for image in opened if image.shape == opened[0].shape])
    try:
        return outlier_vector(backbone, pixels, layer)
    except ValueError:
        with torch.no_grad():
            tokens = backbone.trunk(pixels, stop=layer)
        patches = backbone.layout(pixels).patches(tokens).float()
        channels = patches.abs().amax(dim=(0, 1)).topk(2).indices.tolist()
        norm = 10 * float(median_norm(token_norms(patches)).median())
        return channel_vector(backbone.width, tuple(channels), norm)
