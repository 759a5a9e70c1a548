"""Keys turned towards the queries by a rotation before they are compared: the attention of PEARL."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from diagnostics.backbones.base import QKV, attend

Rotation = Literal["polar", "svd", "none"]

# PGSmall/PEARL c26062b: what the sum of weights, and the scaled square, get so that neither is singular.
WEIGHT_EPSILON = 1e-6
SQUARE_EPSILON = 1e-6
# The released defaults: share of the centered keys' own likeness, and steps of the polar iteration.
ALPHA, STEPS = 0.08, 5


class Compared(NamedTuple):
    """Two sides whose products are logits: each (B, H, T, d'), to be scaled by 1/√d with d the heads' own width."""

    first: Tensor
    second: Tensor


def aligned(
    heads: QKV, prefix: int, *, alpha: float = ALPHA, rotation: Rotation = "polar", steps: int = STEPS
) -> Compared:
    """Queries and rotated keys, and beside them centered keys: products are q·(k R)ᵀ + `alpha`·K·Kᵀ, in fp32.

    Per head: means of queries and keys are taken over patches, weighted by the length of the *queries*; R turns the
    centered keys K onto the centered queries (orthogonal Procrustes; all tokens count alike, the prefix too). The first
    `prefix` tokens have no weight in the means. `rotation`: `polar` iterates for R, see `polar_rotation`; `svd` is
    exact; `none` leaves keys as they are.
    Source: Pei et al., PEARL, CVPR 2026, arXiv:2603.21528; PGSmall/PEARL c26062b.
    """
    q, k = heads.q.float(), heads.k.float()
    weights = q.norm(dim=-1, keepdim=True)
    weights[:, :, :prefix] = 0
    weights = weights / (weights.sum(dim=2, keepdim=True) + WEIGHT_EPSILON)
    queries, keys = (side - (weights * side).sum(dim=2, keepdim=True) for side in (q, k))
    turned = k
    if rotation != "none":
        product = keys.mT @ queries
        turned = k @ (polar_rotation(product, steps) if rotation == "polar" else exact_rotation(product))
    if not alpha:
        return Compared(q, turned)
    return Compared(torch.cat([q, alpha * keys], dim=-1), torch.cat([turned, keys], dim=-1))


def aligned_mix(
    heads: QKV,
    prefix: int,
    *,
    alpha: float = ALPHA,
    rotation: Rotation = "polar",
    steps: int = STEPS,
    bias: Tensor | None = None,
    skip: int = 0,
    values: Tensor | None = None,
) -> Tensor:
    """Values mixed by the softmax of what `aligned` compares: (B, H, T, d); `bias`, `skip`, `values` as kernel_mix.

    Where the model has a relative bias of its own, it is added.
    """
    first, second = aligned(heads, prefix, alpha=alpha, rotation=rotation, steps=steps)
    v = heads.v if values is None else values
    relative = None if heads.bias is None else heads.bias[..., skip:]
    if relative is not None:
        bias = relative if bias is None else relative + bias
    return attend(
        first.to(v.dtype), second[:, :, skip:].to(v.dtype), v[:, :, skip:], bias, scale=heads.q.shape[-1] ** -0.5
    )


def exact_rotation(product: Tensor) -> Tensor:
    """The orthogonal R nearest to M, U·Vᵀ of its singular vectors: (…, d, d) -> (…, d, d)."""
    left, _, right = torch.linalg.svd(product)
    return left @ right


def polar_rotation(product: Tensor, steps: int = STEPS) -> Tensor:
    """M·(MᵀM)^(-½) by `steps` coupled Newton-Schulz steps: (…, d, d) -> (…, d, d), orthogonal in the limit.

    As released 5 steps, which are far from the limit for spectra of attention heads; and 1e-6 added to the scaled
    square keeps small singular values from it for good. A product of zeros gives zeros.
    Source: PGSmall/PEARL c26062b.
    """
    square = product.mT @ product
    size = square.flatten(-2).norm(dim=-1)[..., None, None].clamp_min(torch.finfo(square.dtype).tiny)
    identity = torch.eye(product.shape[-1], dtype=product.dtype, device=product.device)
    y, z = square / size + SQUARE_EPSILON * identity, identity.expand_as(square)
    for _ in range(steps):
        step = (3 * identity - z @ y) / 2
        y, z = y @ step, step @ z
    return product @ z / size.sqrt()
