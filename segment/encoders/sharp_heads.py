"""Heads chosen by how sharply they attend, each mixing the values of all heads: DIH-CLIP."""

from __future__ import annotations

from torch import Tensor

from diagnostics.backbones.base import QKV, attention_weights, join_heads, split_heads
from segment.encoders.kernels import KernelPositions
from segment.method import Activations

# duan-song/DiH-CLIP 775b609: added inside the logarithm.
LOG_EPSILON = 1e-6


def map_entropy(weights: Tensor) -> Tensor:
    """Entropy of each head's whole map, -Σ A·log2(A + 1e-6): (B, H, T, T) -> (B, H), in bits."""
    weights = weights.float()
    return -(weights * (weights + LOG_EPSILON).log2()).sum(dim=(-2, -1))


def sharpest(entropy: Tensor, count: int) -> Tensor:
    """The heads whose entropy is among the `count` lowest, all of equal ones: (B, H) -> (B, H) bool."""
    limit = entropy.sort(dim=1).values[:, min(count, entropy.shape[1]) - 1]
    return entropy <= limit[:, None]


def mixed_by_sharpest(weights: Tensor, chosen: Tensor, v: Tensor) -> Tensor:
    """The chosen heads' maps, summed, on the values of every head: (B, H, T, T), (B, H) bool -> (B, H, T, d)."""
    total = (weights * chosen[:, :, None, None]).sum(dim=1)
    return split_heads(total.to(v.dtype) @ join_heads(v), v.shape[1])


def handed_out(activations: Activations, layer: int, count: int, *, positions: KernelPositions = "kept") -> Tensor:
    """What the sharpest heads of a block hand out by their keys' likeness: (B, T, D).

    Heads are chosen by the entropy of their q-k attention, prefix tokens included; Proj(Σ softmax(k·kᵀ/√d)·V), V the
    values of all heads side by side. Needs ("block_out", layer - 1).
    """
    heads = activations.heads(layer)
    chosen = sharpest(map_entropy(attention_weights(heads.q, heads.k, heads.bias)), count)
    mixed = mixed_by_sharpest(_own_likeness(heads, positions), chosen, heads.v)
    return activations.blocks[layer - 1].merge_heads(mixed, heads.normed)


def sharpest_mix(heads: QKV, count: int, similar: Tensor | None, *, positions: KernelPositions = "kept") -> Tensor:
    """The last block's mix: M = ½·(similarity attention + softmax(k·kᵀ/√d)), its sharpest heads: (B, H, N, d).

    `similar` (B, N, N) or None, which leaves the second alone. Divided by the number of all heads, however many are
    summed, as released.
    """
    weights = _own_likeness(heads, positions)
    if similar is not None:
        weights = (weights + similar[:, None].to(weights.dtype)) / 2
    chosen = sharpest(map_entropy(weights), count)
    return mixed_by_sharpest(weights, chosen, heads.v) / heads.v.shape[1]


def _own_likeness(heads: QKV, positions: KernelPositions) -> Tensor:
    """softmax(k·kᵀ/√d), with or without what the model's attention knows of positions: (B, H, T, T)."""
    source = heads if positions == "kept" else heads.without_positions()
    return attention_weights(source.k, source.k, source.bias)
