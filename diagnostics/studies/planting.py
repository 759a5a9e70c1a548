"""Detectors on images with outliers planted at known places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from diagnostics.backbones.base import Backbone
from diagnostics.edits.plant import Plant, channel_vector, outlier_vector
from diagnostics.images import Size
from diagnostics.images.feed import Loader, list_images, size_for
from diagnostics.measures.norms import median_norm, token_norms
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
    layers: Sequence[int] | None = None,
    fitted: Fitted | None = None,
    size: str | Size | None = None,
    batch: int = 8,
    progress: bool = False,
) -> Iterator[tuple[Plant, xr.Dataset]]:
    """Scores of images with outliers planted after the first of `layers`, for each count in turn.

    Detectors that learn did so on the images as they are: `fitted`, or the first of them.

    Patches that are outliers of the model's own (norm above 3 x the median, our choice) are taken out of `inside`:
    a detector that finds them is not wrong, and they are not what was planted. At the very layer where they are put,
    detectors that look at what comes before the block's output, such as its attention, can't see them: their scores
    are nan there, and they mark nothing.
    """
    if not counts:
        return
    depth = backbone.depth
    first = min(resolve_layer(layer, depth) for layer in layers) if layers else 1 + depth // 2
    later = [layer for layer in layers or range(1, depth + 1) if resolve_layer(layer, depth) >= first]
    vector = planted_vector(backbone, images, first, size=size)
    if fitted is None:
        fitted = fit_detectors(backbone, images, detectors, layers=later, size=size)
    options: dict[str, Any] = {"layers": later, "fitted": fitted, "size": size, "batch": batch, "progress": progress}
    stock = score_images(backbone, images, ["relative-norm"], **options)
    natural = stock["marked"].isel(detector=0).any("layer")
    for count in counts:
        plant = Plant(vector=vector, layers=(first,), count=count, clustered=clustered, seed=seed)
        scores = score_images(backbone, images, detectors, plant=plant, **options)
        scores["inside"] = scores["inside"] & (scores["planted"] | ~natural.values)
        blind = [spec for spec, part in named_detectors(detectors).items() if "block_out" not in part.needs]
        if first in scores["layer"].values:
            where = {"detector": blind, "layer": first}
            scores["score"].loc[where], scores["marked"].loc[where] = np.nan, False
        yield plant, scores


def planted_truth(
    backbone: Backbone, images: Any, detectors: Detectors, counts: Sequence[int], **options: Any
) -> pd.DataFrame:
    """Detectors against planted outliers: `truth_table` for each count, with columns `planted` and `clustered`.

    `options` are those of `planted_scores`.
    """
    tables = [
        truth_table(scores, scores["planted"]).assign(planted=plant.count, clustered=plant.clustered)
        for plant, scores in planted_scores(backbone, images, detectors, counts, **options)
    ]
    return pd.concat(tables, ignore_index=True)


def planted_vector(backbone: Backbone, images: Any, layer: int, *, size: str | Size | None = None) -> tuple[float, ...]:
    """What to plant after a layer: the model's own outlier there, or one made of its two largest channels.

    Where the first images have no outlier of their own, the two channels of largest peak get ten times the median
    patch norm (our choice).
    """
    listed = list_images(images, size_for(backbone, size), strict=False)
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size)
    opened = [item.image for item in map(loader, range(min(IMAGES_TO_FIT, len(listed)))) if item.image is not None]
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
