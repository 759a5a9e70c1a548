"""Similarity of patches put to work: thresholds, means over similar patches, attention, balanced maps."""

from __future__ import annotations

import torch
from torch import Tensor

from diagnostics.backbones.base import join_heads, split_heads
from diagnostics.measures.similarity import cosine_affinity

# SuleBai/SC-CLIP 0417ba9, added to sums of rows before the division: a row of zeros stays one.
ROW_EPSILON = 1e-6


def similarity(patches: Tensor) -> Tensor:
    """Cosine of every two patches of one image, in at least fp32: (B, N, D) -> (B, N, N), in [-1, 1]."""
    # Deviation: the released codes of SC-CLIP and SFP compare in the model's dtype, fp16 on a GPU.
    return cosine_affinity(patches.to(torch.promote_types(patches.dtype, torch.float32)))


def thresholded(affinity: Tensor, threshold: float) -> Tensor:
    """Entries below the threshold become 0: any shape. Source: SC-CLIP, arXiv:2411.15869, supplement, Sec 6."""
    return affinity.masked_fill(affinity < threshold, 0)


def aggregate(affinity: Tensor, patches: Tensor) -> Tensor:
    """Each patch as the mean of all, weighted by its row: (B, N, N), (B, N, D) -> (B, N, D), in the patches' dtype.

    Weights should not be negative. A row of zeros gives a zero patch. Source: SC-CLIP, arXiv:2411.15869, Eq 4-5.
    """
    total = affinity.sum(dim=-1, keepdim=True) + ROW_EPSILON
    return (affinity @ patches.to(affinity.dtype) / total).to(patches.dtype)


def masked_softmax(affinity: Tensor, *, shift: float, scale: float) -> Tensor:
    """Attention from similarity, S' = `scale`·(S - `shift`·mean S) with negatives at -∞: (B, N, N), rows sum to 1.

    The mean is that of the image's whole S.
    Source: ProxyCLIP (ECCV 2024), there with γ = `scale` and β = `shift`; SuleBai/SC-CLIP 0417ba9 with 3 and 1.
    """
    every = torch.arange(affinity.shape[-1], device=affinity.device)
    return masked_softmax_rows(affinity, every, affinity.mean(dim=(1, 2), keepdim=True), shift=shift, scale=scale)


def masked_softmax_rows(affinity: Tensor, rows: Tensor, mean: Tensor, *, shift: float, scale: float) -> Tensor:
    """Rows `rows` (R) of `masked_softmax`, from these rows of S and its mean (B, 1, 1): (B, R, N) -> (B, R, N)."""
    centered = scale * (affinity - shift * mean)
    # Deviation: where a row has nothing left the released codes' softmax gives nan, which spreads over the image; we
    # let such a patch attend to itself. It happens to a zero patch, where patches are nearly alike and `shift` is above
    # 1, and by rounding where all patches are the same.
    itself = rows[:, None] == torch.arange(affinity.shape[-1], device=affinity.device)
    return centered.masked_fill((centered < 0) & ~itself, -torch.inf).softmax(dim=-1)


def apply_attention(weights: Tensor, v: Tensor) -> Tensor:
    """Values mixed by weights that all heads share: (B, N, N), (B, H, N, d) -> (B, H, N, d)."""
    # One product for all heads: broadcasting would copy the weights for each.
    return split_heads(weights.to(v.dtype) @ join_heads(v), v.shape[1])


def sinkhorn(weights: Tensor, iterations: int) -> Tensor:
    """Rows, then columns divided by their sums, over and over: (B, N, N), not negative -> (B, N, N).

    Columns sum to 1 afterwards, rows nearly so after many iterations if no column is empty. Rows and columns of zeros
    stay zeros. Source: SFP (Jin et al., ICCV 2025), Eq 10; Sinkhorn and Knopp 1967.
    """
    least = torch.finfo(weights.dtype).tiny
    for _ in range(iterations):
        for dim in (2, 1):
            weights = weights / weights.sum(dim=dim, keepdim=True).clamp_min(least)
    return weights
