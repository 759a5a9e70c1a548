"""Outliers of one layer's output, found and purified on the way into a method."""

from __future__ import annotations

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.base import Detector
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from segment.method import Activations, TapSite


def purification_needs(detector: Detector, purifier: Purifier, layer: int) -> list[TapSite]:
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


def recombination_unsupported_reason(backbone: Backbone) -> str | None:
    """Why an encoder that recombines queries, keys and values can't run on a model, or None."""
    return backbone.lacking(("query", "key"))


def find_outliers(activations: Activations, detector: Detector, layer: int) -> Tensor:
    """What the detector marks in a layer's output: (B, N) bool."""
    return detector(activations.recording.at(layer), activations.layout).mask


def purified(activations: Activations, detector: Detector, purifier: Purifier, layer: int) -> tuple[Tensor, Tensor]:
    """A layer's patches, purified, and which were: (B, N, D), (B, N) bool.

    `keep` looks for nothing and marks nothing.
    """
    patches = activations.patches(layer)
    if isinstance(purifier, Keep):
        return patches, torch.zeros(patches.shape[:2], dtype=torch.bool, device=patches.device)
    mask = find_outliers(activations, detector, layer)
    return purifier(patches, mask, activations.layout, class_token=activations.class_token(layer)), mask


def purified_tokens(
    activations: Activations, detector: Detector, purifier: Purifier, layer: int
) -> tuple[Tensor, Tensor]:
    """A layer's tokens with purified patches and an unchanged prefix, and the marks: (B, T, D), (B, N)."""
    tokens = activations.tokens(layer)
    patches, mask = purified(activations, detector, purifier, layer)
    return (tokens if isinstance(purifier, Keep) else activations.layout.with_patches(tokens, patches)), mask
