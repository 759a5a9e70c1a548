"""A Gaussian of the distance between patches, to lean attention towards neighbors."""

from __future__ import annotations

import torch
from torch import Tensor

from diagnostics.layout import Layout


def distance_bias(layout: Layout, spread: float, *, device: torch.device | str = "cpu") -> Tensor:
    """exp(-distance² / 2·spread²) between patches, distances in patches: (T, T), its peak 1; 0 for prefix tokens.

    Source: NACLIP, sinahmr/NACLIP 0cac3a6, where it is added to the logits of every head.
    """
    rows, cols = (_decay(count, spread, device) for count in layout.grid)
    bias = torch.zeros(layout.tokens, layout.tokens, device=device)
    # A Gaussian is the product of one along rows and one along columns: few exponentials, so that no cache is needed.
    bias[layout.prefix :, layout.prefix :] = torch.kron(rows, cols)
    return bias


def _decay(count: int, spread: float, device: torch.device | str) -> Tensor:
    """exp(-(i - j)² / 2·spread²): (count, count)."""
    place = torch.arange(count, device=device, dtype=torch.float32)
    return torch.exp(-(place[:, None] - place).square() / (2 * spread**2))
