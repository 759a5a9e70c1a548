"""Outliers of one layer's output, found and purified on the way into a method."""

from __future__ import annotations

import torch
from torch import Tensor

from diagnostics.detectors.base import Detector
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from segment.method import Activations, Place


def purification_needs(detector: Detector, purifier: Purifier, layer: int) -> list[Place]:
    """Places of the stock forward that the purification of a layer's output reads."""
    taps = () if isinstance(purifier, Keep) else detector.needs
    return [("block_out", layer), *((tap, layer) for tap in taps)]


def purification_unsupported_reason(
    detector: Detector, purifier: Purifier, layout: Layout, layer: int | None = None
) -> str | None:
    """Why the purification can't run on such tokens, or None. `layer`, 0…L, is the one purified, where it may be 0."""
    if isinstance(purifier, Keep):
        return None
    missing = [tap for tap in detector.needs if tap != "block_out"]
    if layer == 0 and missing:
        return (
            f"its detector reads `{missing[0]}`, which the embedding lacks; take one that reads tokens alone, such as "
            "norm-topk, or purify a later layer"
        )
    return detector.unsupported_reason(layout) or purifier.unsupported_reason(layout)


def find_outliers(stock: Activations, detector: Detector, layer: int) -> Tensor:
    """What the detector marks in a layer's output: (B, N) bool."""
    return detector(stock.recording.at(layer), stock.layout).mask


def purified(stock: Activations, detector: Detector, purifier: Purifier, layer: int) -> tuple[Tensor, Tensor]:
    """A layer's patches, purified, and which were: (B, N, D), (B, N) bool.

    `keep` looks for nothing and marks nothing.
    """
    patches = stock.patches(layer)
    if isinstance(purifier, Keep):
        return patches, torch.zeros(patches.shape[:2], dtype=torch.bool, device=patches.device)
    mask = find_outliers(stock, detector, layer)
    return purifier(patches, mask, stock.layout, class_token=stock.class_token(layer)), mask


def purified_tokens(stock: Activations, detector: Detector, purifier: Purifier, layer: int) -> tuple[Tensor, Tensor]:
    """A layer's tokens with purified patches and an unchanged prefix, and the marks: (B, T, D), (B, N)."""
    tokens = stock.tokens(layer)
    patches, mask = purified(stock, detector, purifier, layer)
    return (tokens if isinstance(purifier, Keep) else stock.layout.with_patches(tokens, patches)), mask
