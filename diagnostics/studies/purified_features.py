"""Dense features of a layer once the patches that a detector marks are purified."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.base import Detector
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.images.feed import Loaded, Loader, list_images, stacked
from diagnostics.layout import Layout
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.purifiers import PURIFIERS
from diagnostics.purifiers.base import Purifier
from diagnostics.studies.blocks import work_on_blocks
from diagnostics.studies.scoring import check_finite, prepare_run, ready_detectors
from diagnostics.taps import Recording, resolve_layer

# `relative-norm + neighbor-mean`, or the two as a pair of specs or parts.
Purification = str | tuple[str | Detector, str | Purifier]
Maps = np.ndarray | list[np.ndarray]

OPTIONS = ("size", "batch", "progress")


@dataclass(frozen=True)
class Purified:
    """Dense features whose outliers are purified, beside the marks.

    `names` of the N images. `features` float32 (N, rows, cols, D) and `marked` bool (N, rows, cols), True for the
    patches that were purified; where images have several grids, both are lists of N arrays without N.
    """

    names: list[str]
    features: Maps
    marked: Maps


class PurifiedTokens(NamedTuple):
    """Tokens (B, T, D) with purified patches, and which patches these are: (B, N) bool."""

    tokens: Tensor
    marked: Tensor


def purify(
    backbone: Backbone,
    images: Any,
    purification: Purification = "relative-norm + neighbor-mean",
    *,
    layer: int = -1,
    purify_at: int | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> Purified:
    """Dense features of a layer with its outliers purified, and which patches they were.

    Parameters
    ----------
    backbone
        The model, from `load_backbone`.
    images
        Files, folders, globs, PIL images or arrays (h, w, 3) uint8, one or many.
    purification
        `DETECTOR + PURIFIER`, each with settings if wanted: `relative-norm:threshold=5 + neighbor-mean`. Or the pair.
    layer
        Layer 1…L (or negative, -1 the last) whose block output is returned.
    purify_at
        Layer 1…`layer` whose block output is purified. None is `layer` itself: purified in place, no block sees the
        result. An earlier one is propagated: the blocks after it compute with the purified patches.
    options, **keywords
        Options of the run: `size`, `batch`, `progress`; see RunOptions.

    Returns
    -------
    Purified
        `names`, `features` float32 (N, rows, cols, D) in model units, and `marked` bool (N, rows, cols). Images of
        several grids give lists of arrays. Prefix tokens are neither changed nor returned.

    Raises
    ------
    ValueError
        For unknown parts or layers, parts that can't run on this model, an image that can't be read (rows must stay
        in step with the images), and NaN or infinite values.

    Source
    ------
    In place as SC-CLIP purifies its last layers, arXiv:2411.15869; propagated as SFP, ICCV 2025.

    Examples
    --------
    >>> import numpy as np, attention_outliers as ao
    >>> image = np.full((64, 64, 3), 128, np.uint8)
    >>> purified = ao.purify(ao.load_backbone("tiny:outliers=true"), image, layer=8)
    >>> purified.features.shape, purified.marked.shape, int(purified.marked.sum())
    ((1, 14, 14, 64), (1, 14, 14), 7)
    """
    options = run_options("purify", options, keywords, uses=OPTIONS)
    return layer_maps(backbone, images, layer, parse_purification(purification), purify_at, options)


def purify_tokens(
    tokens: Tensor, layout: Layout, purification: Purification = "relative-norm + neighbor-mean"
) -> PurifiedTokens:
    """Tokens that are already there, with their outliers purified.

    Parameters
    ----------
    tokens
        Block output (B, T, D): prefix tokens first, then the patches row by row.
    layout
        Where the tokens sit: `backbone.layout(images)`, or `Layout(prefix, Grid(rows, cols))`.
    purification
        `DETECTOR + PURIFIER`, or the pair. The detector may look at the tokens alone.

    Returns
    -------
    PurifiedTokens
        New `tokens` (B, T, D) with the same prefix, and `marked` (B, N) bool.

    Raises
    ------
    ValueError
        For a detector that needs more than the tokens, such as attention, or has to learn first.

    Source
    ------
    As the named detector and purifier.

    Examples
    --------
    >>> import torch, attention_outliers as ao
    >>> tokens = torch.ones(1, 1 + 6, 4)
    >>> tokens[0, 3] = 100
    >>> purified = ao.purify_tokens(tokens, ao.Layout(1, ao.Grid(2, 3)))
    >>> purified.marked.nonzero().tolist(), purified.tokens[0, 3].tolist()
    ([[0, 2]], [1.0, 1.0, 1.0, 1.0])
    """
    detector, purifier = parse_purification(purification)
    more = [name for name in detector.needs if name != "block_out"]
    if more or detector.learns:
        reason = f"it reads `{more[0]}`" if more else "it learns from images or weights first"
        raise ValueError(
            f"{detector} can't judge tokens alone: {reason}. Take one that reads the block output, such as "
            "`relative-norm`, or give images: purify(backbone, images)."
        )
    mask = detector(Recording(1, {("block_out", 1): tokens}), layout).mask
    return PurifiedTokens(purifier.purify_tokens(tokens, mask, layout), mask)


def parse_purification(purification: Purification) -> tuple[Detector, Purifier]:
    """`relative-norm + neighbor-mean`, or a pair of specs or parts, as detector and purifier."""
    pair: Sequence[Any] = purification if isinstance(purification, tuple) else _split_pair(purification)
    if len(pair) != 2 or not all(pair):
        raise ValueError(
            f"a purification should read `DETECTOR + PURIFIER`, such as `relative-norm + neighbor-mean`; got "
            f"`{purification}`."
        )
    detector, purifier = pair
    return (
        detector if isinstance(detector, Detector) else DETECTORS.build(detector),
        purifier if isinstance(purifier, Purifier) else PURIFIERS.build(purifier),
    )


def _split_pair(text: str) -> list[str]:
    """At the plus with blanks around it; without one, at any plus, which may also stand in a number: `1e+2`."""
    spaced = re.split(r"\s+\+\s+", text.strip())
    return [piece.strip() for piece in (spaced if len(spaced) > 1 else text.split("+"))]


def layer_maps(
    backbone: Backbone,
    images: Any,
    layer: int,
    purification: tuple[Detector, Purifier] | None,
    purify_at: int | None,
    options: RunOptions,
) -> Purified:
    """Block output of a layer as maps, purified at `purify_at` (`layer` if None); nothing is marked without parts."""
    last = resolve_layer(layer, backbone.depth)
    at = last if purify_at is None else resolve_layer(purify_at, backbone.depth)
    if purification is None and purify_at is not None:
        raise ValueError("`purify_at` should come with a purification, such as `relative-norm + neighbor-mean`.")
    if purification is not None and not 1 <= at <= last:
        raise ValueError(f"`purify_at` should be from 1 to the layer that is returned, {last}; got {at}.")
    loader, edit = _loader_and_edit(backbone, images, purification, at, options.changed(strict=True))

    def work(batch: list[Loaded]) -> tuple[np.ndarray, np.ndarray]:
        pixels = stacked(batch)
        layout = backbone.layout(pixels)
        with torch.no_grad():
            tokens = backbone.trunk(pixels, stop=last, tap=edit)
        check_finite(tokens, [loader.images[image.number].name for image in batch], "tokens", last)
        maps = layout.to_map(layout.patches(tokens)).float().cpu().numpy()
        marked = np.zeros(maps.shape[:-1], bool) if edit is None else layout.to_map(edit.masks[at]).cpu().numpy()
        return maps, marked

    maps: list[np.ndarray] = [np.empty(0)] * len(loader.images)
    marks = list(maps)
    for block in work_on_blocks(loader, work, options, title=f"features {backbone.spec}"):
        for batch, (batch_maps, batch_marks) in block.batches:
            for place, image in enumerate(batch):
                maps[image.number], marks[image.number] = batch_maps[place], batch_marks[place]
    return Purified([image.name for image in loader.images], _stacked(maps), _stacked(marks))


def _loader_and_edit(
    backbone: Backbone,
    images: Any,
    purification: tuple[Detector, Purifier] | None,
    layer: int,
    options: RunOptions,
) -> tuple[Loader, PurifyAt | None]:
    """What opens the images, and the edit that purifies a layer, its detector ready for it."""
    if purification is None:
        listed = list_images(images, options.size_for(backbone.native_size), strict=True)
        return Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=True), None
    detector, purifier = purification
    run = prepare_run(backbone, images, [detector], options.changed(layers=[layer]))
    for reason in filter(None, map(purifier.unsupported_reason, run.layouts)):
        raise ValueError(f"{purifier} can't run on `{backbone.spec}`: {reason}.")
    (ready,) = ready_detectors(backbone, run, {}).values()
    return run.loader, PurifyAt(detector=ready, purifier=purifier, layers=(layer,))


def _stacked(maps: list[np.ndarray]) -> Maps:
    """One array where all have the same shape, otherwise the list."""
    return np.stack(maps) if len({array.shape for array in maps}) == 1 else maps
