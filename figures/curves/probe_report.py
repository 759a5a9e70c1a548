"""All figures of one probe, each with the name of its file."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.curves.layer_curves import LAYER_CURVES, layer_overview
from figures.curves.roc import roc_curves
from figures.maps.attention_heads import HEADS, attention_heads
from figures.maps.channels import channel_heatmap, channel_means
from figures.maps.layer_maps import MAPS, maps_over_layers, pca_maps
from figures.maps.layer_similarity import layer_similarity
from figures.maps.one_image import image_names
from figures.maps.query_maps import MATRICES, QUERY_MAPS, attention_matrices, query_maps

LONGEST_NAME = 80  # characters of an image's name in a file name; file systems allow 255 bytes


def safe_name(name: str, taken: Collection[str] = ()) -> str:
    """An image's name as part of a file name: letters, digits, `.`, `_` and `-`; others become `_`.

    Where that name is taken, in any case of letters, a number is put behind it.
    """
    safe = re.sub(r"[^\w.-]+", "_", name).strip("._") or "image"
    # The end tells more than the folders before it.
    safe = safe[-LONGEST_NAME:].lstrip("._") or "image"
    lowered = {other.lower() for other in taken}
    candidate, number = safe, 2
    while candidate.lower() in lowered:
        candidate, number = f"{safe}_{number}", number + 1
    return candidate


def probe_figures(
    dataset: xr.Dataset, *, images: Mapping[str, np.ndarray] | None = None, maps_for: int = 3
) -> Iterator[tuple[str, Figure]]:
    """(file name without suffix, figure) of every figure that the data set allows, one at a time.

    `layers`, `heads_<variable>`, `layer_similarity`, `roc`, `channel_means`, `channels`; then `maps_<image>`,
    `pca_<image>`, `queries_<image>` and `attention_<image>` of the first `maps_for` images, those in `images`
    (name to (h, w, 3)) before the others. File names are safe and differ even where only the case of letters would
    tell them apart. No images, no figures.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run of `ao.probe`, or a stored one.
    images : dict of str to array (H, W, 3), or None
        Images by their name in the run, shown beside their maps.
    maps_for : int
        Images that get maps.

    Yields
    ------
    (str, matplotlib.figure.Figure)
        File name without suffix, and the figure.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> dataset = ao.probe(backbone, scenes, measures=["norms"])
    >>> [name for name, _ in ao.probe_figures(dataset, maps_for=0)]
    ['layers']
    """
    if not dataset.sizes.get("image", 1):
        return
    if any(name in dataset for name in LAYER_CURVES):
        yield "layers", layer_overview(dataset)
    for variable in HEADS:
        if variable in dataset:
            yield f"heads_{variable}", attention_heads(dataset, variable)
    if "layer_cka" in dataset:
        yield "layer_similarity", layer_similarity(dataset)
    if "roc" in dataset:
        yield "roc", roc_curves(dataset)
    if "channel_mean" in dataset:
        yield "channel_means", channel_means(dataset)
    if "channel_peak" in dataset:
        yield "channels", channel_heatmap(dataset)
    images = images or {}
    taken: list[str] = []
    chosen = sorted(image_names(dataset), key=lambda name: name not in images)[: max(maps_for, 0)]
    for image in chosen:
        taken.append(safe_name(image, taken))
        if any(name in dataset for name in MAPS):
            yield f"maps_{taken[-1]}", maps_over_layers(dataset, image, pixels=images.get(image))
        if "pca" in dataset:
            yield f"pca_{taken[-1]}", pca_maps(dataset, image, pixels=images.get(image))
        if any(name in dataset for name in QUERY_MAPS):
            yield f"queries_{taken[-1]}", query_maps(dataset, image, pixels=images.get(image))
        if any(name in dataset for name in MATRICES):
            yield f"attention_{taken[-1]}", attention_matrices(dataset, image)
