"""A Gaussian of the distance between patches, to lean attention towards neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from diagnostics.layout import Layout


def distance_bias(layout: Layout, spread: float, *, device: torch.device | str = "cpu") -> Tensor:
    """exp(-distance² / 2·spread²) between patches, distances in patches: (T, T), its peak 1; 0 for prefix tokens.

    Source: NACLIP, sinahmr/NACLIP 0cac3a6, where it is added to the logits of every head.
    """
    rows, cols = layout.grid
    place = torch.cartesian_prod(torch.arange(rows, device=device), torch.arange(cols, device=device)).float()
    place = place.reshape(-1, 2)
    squared = (place[:, None] - place[None]).square().sum(dim=-1)
    bias = torch.zeros(layout.tokens, layout.tokens, device=device)
    bias[layout.prefix :, layout.prefix :] = torch.exp(-squared / (2 * spread**2))
    return bias
