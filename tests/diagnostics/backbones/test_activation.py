"""Activations: the lean QuickGELU is the stock one to the last bit, and gradients pass."""

from __future__ import annotations

import pytest
import timm.layers
import torch
from open_clip.transformer import QuickGELU
from torch import nn

from diagnostics.backbones.activation import activated


@pytest.mark.parametrize("module", [QuickGELU(), timm.layers.QuickGELU(), nn.GELU()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_the_stock_activation_to_the_last_bit_and_leaves_its_input_alone(module, dtype):
    x = 4 * torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = x.clone()
    assert torch.equal(activated(module, x), module(x))
    assert torch.equal(x, before)


def test_gradients_are_those_of_the_stock_activation():
    x, y = (torch.linspace(-3, 3, 9).requires_grad_() for _ in range(2))
    activated(QuickGELU(), x).sum().backward()
    QuickGELU()(y).sum().backward()
    assert torch.equal(x.grad, y.grad)
