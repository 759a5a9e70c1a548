"""Activations of feed-forward networks, with less memory traffic where the result is the same to the last bit."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# open_clip's and timm's classes of this name. Known by it, so that neither library has to be there.
QUICK_GELU = "QuickGELU"


def activated(activation: nn.Module, x: Tensor) -> Tensor:
    """activation(x): any shape -> the same.

    Stock QuickGELU, x·σ(1.702·x), makes three tensors of the widest layer's size, which costs a tenth of a block on a
    CPU; here there is one. Where gradients are wanted the stock module runs.
    """
    if type(activation).__name__ == QUICK_GELU and not (x.requires_grad and torch.is_grad_enabled()):
        return (1.702 * x).sigmoid_().mul_(x)
    values: Tensor = activation(x)
    return values
