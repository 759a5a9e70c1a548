"""The patch-patch part of a layer's attention, heads averaged: what stripes and low rank are read from."""

from __future__ import annotations

import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.measures.attention import attention_rows


def patch_map(q: Tensor, k: Tensor, layout: Layout, bias: Tensor | None = None) -> Tensor:
    """Mean over heads of what patches attend to among patches: q, k (B, H, T, d) -> (B, N, N) in fp32, rows queries.

    `bias` (1, H, T, T) is the relative position bias on the logits.

    Rows sum to what the prefix tokens leave, at most 1. One head at a time is held, not (B, H, T, T).
    """
    queries = layout.patches(q, dim=2).float()
    keys = k.float()
    total = torch.zeros(q.shape[0], layout.count, layout.tokens, device=q.device)
    for head in range(q.shape[1]):
        added = None if bias is None else layout.patches(bias[:, head], dim=1).float()
        total += attention_rows(queries[:, head], keys[:, head], added)
    return layout.patches(total, dim=2) / q.shape[1]
