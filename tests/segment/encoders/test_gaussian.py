"""The Gaussian of the distance against a loop over pairs of patches."""

from __future__ import annotations

import math

import pytest
import torch

from diagnostics.layout import Grid, Layout
from segment.encoders.gaussian import distance_bias


@pytest.mark.parametrize("grid", [Grid(3, 5), Grid(1, 4), Grid(4, 1), Grid(1, 1)], ids=lambda g: f"{g[0]}x{g[1]}")
@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("spread", [0.7, 5.0])
def test_every_entry_is_the_gaussian_of_the_distance_of_its_two_patches(grid, prefix, spread):
    layout = Layout(prefix, grid)
    bias = distance_bias(layout, spread)
    assert bias.shape == (layout.tokens, layout.tokens)
    for i in range(layout.tokens):
        for j in range(layout.tokens):
            expected = 0.0
            if i >= prefix and j >= prefix:
                down = (i - prefix) // grid.cols - (j - prefix) // grid.cols
                across = (i - prefix) % grid.cols - (j - prefix) % grid.cols
                expected = math.exp(-(down**2 + across**2) / (2 * spread**2))
            assert float(bias[i, j]) == pytest.approx(expected, rel=1e-6)


def test_the_peak_is_exactly_one_and_stands_on_the_diagonal():
    bias = distance_bias(Layout(1, Grid(14, 14)), 5.0)
    assert torch.equal(bias.diagonal()[1:], torch.ones(196))
    assert bias.max() == 1
    assert torch.equal(bias, bias.mT)
