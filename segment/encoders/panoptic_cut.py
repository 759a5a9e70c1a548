"""An image cut into masks, one normalized cut after the other: LaVG's Panoptic Cut."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from diagnostics.registry import unknown_name
from segment.encoders.normalized_cut import cut_off, links_of

Earlier = Literal["removed", "zeroed"]

# The number of patches that no mask has; the same as in segment.decoding.masks.
REMAINDER = -1


def panoptic_cut(
    features: Tensor, *, tau: float = 0.3, cuts: int = 8, conflict: float = 0.5, earlier: Earlier = "removed"
) -> Tensor:
    """Masks of patches that belong together: (B, N, D) -> (B, N) int64, 0…K-1 in the order found, -1 for the remainder.

    Up to `cuts` times the graph of patches with cosine above `tau` is cut in two, and the part that stands out becomes
    a mask. `earlier` says what happens to patches of earlier masks: `removed` takes them out of the graph, `zeroed`
    leaves them in it without links, so that a later cut can cover them once more; then a mask whose intersection over
    union with an earlier one is above `conflict` is dropped, and otherwise the earlier one keeps what both have. It
    ends early where nothing is left to cut. `removed` is our choice: what the released code does with them is not known
    to us.
    Source: LaVG (Kang and Cho, ECCV 2024), dahyun-kang/lavg 2db88e5: threshold, number of cuts, conflicts, remainder.
    Deviation: no conditional random field refines the masks; its usual library, pydensecrf, is no longer maintained.
    """
    if earlier not in get_args(Earlier):
        raise unknown_name("way with earlier masks", earlier, get_args(Earlier))
    return torch.stack([_masks(image, tau, cuts, conflict, earlier) for image in features])


def _masks(features: Tensor, tau: float, cuts: int, conflict: float, earlier: Earlier) -> Tensor:
    count = len(features)
    taken = torch.zeros(count, dtype=torch.bool, device=features.device)
    labels = torch.full((count,), REMAINDER, device=features.device)
    kept: list[Tensor] = []
    for _ in range(cuts):
        if earlier == "removed":
            nodes = (~taken).nonzero()[:, 0]
            graph = features[nodes]
        else:
            nodes = torch.arange(count, device=features.device)
            graph = features * ~taken[:, None]
        part = cut_off(links_of(graph, tau))
        if part is None:
            break
        mask = torch.zeros_like(taken)
        mask[nodes[part.to(nodes.device)]] = True
        taken = taken | mask
        if any(_overlap(mask, other) > conflict for other in kept):
            continue
        labels[mask & (labels == REMAINDER)] = len(kept)
        kept.append(mask)
    return labels


def _overlap(mask: Tensor, other: Tensor) -> float:
    """Intersection over union."""
    return float((mask & other).sum() / (mask | other).sum())
