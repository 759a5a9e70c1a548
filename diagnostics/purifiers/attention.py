"""Purification of attention: marked patches as keys that nobody attends to."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.checks import check_choice, check_mask, computing_dtype

How = Literal["renormalize", "zero"]


def mask_columns(weights: Tensor, mask: Tensor, layout: Layout, *, how: How = "renormalize") -> Tensor:
    """Attention (B, H, T, T), rows are queries, with the columns of marked patches (B, N) at 0: a new (B, H, T, T).

    `renormalize` divides each row by what is left, so that it sums to 1: the same as -inf at those keys before the
    softmax. A row with nothing left keeps its original weights, where -inf would give nan. `zero` leaves rows short, or
    empty. Prefix tokens keep their columns. Images without a mark come back bit for bit; dtype is kept.
    Source: `zero` is SFP (Jin et al., ICCV 2025), Eq 8; RF-CLIP, arXiv:2511.16170, reports the -inf mask as collapsing.
    """
    check_choice("how", how, How)
    if weights.ndim != 4 or weights.shape[2:] != (layout.tokens, layout.tokens):
        raise ValueError(
            f"`weights` should be (B, H, T, T) with T={layout.tokens}; got {tuple(weights.shape)}. "
            "Give the tap `attention`, prefix tokens included."
        )
    check_mask(mask, weights, layout)
    columns = F.pad(mask, (layout.prefix, 0), value=False)[:, None, None, :]
    left = weights.masked_fill(columns, 0)
    if how == "zero":
        return left
    total = left.sum(dim=-1, keepdim=True, dtype=computing_dtype(weights.dtype))
    has_marks = mask.any(dim=1)[:, None, None, None]
    return torch.where(has_marks & (total > 0), (left / total).to(weights.dtype), weights)
