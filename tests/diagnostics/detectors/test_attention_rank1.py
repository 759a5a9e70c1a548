"""The leading right singular vector of the map, and the scores made from it."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.attention_rank1 import AttentionRank1, leading_right_vector
from diagnostics.detectors.patch_map import patch_map
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording


@pytest.mark.parametrize("layout", [Layout(1, Grid(3, 4)), Layout(0, Grid(2, 5)), Layout(5, Grid(4, 2))], ids=str)
def test_scores_equal_those_of_a_full_singular_value_decomposition(layout):
    generator = torch.Generator().manual_seed(0)
    q, k = (2 * torch.randn(2, 3, layout.tokens, 6, generator=generator) for _ in range(2))
    scores = AttentionRank1().score(Recording(1, {("query", 1): q, ("key", 1): k}), layout)
    vector = torch.linalg.svd(patch_map(q, k, layout).double()).Vh[:, 0]
    torch.testing.assert_close(scores.double(), layout.count * vector.square(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(scores.mean(dim=1), torch.ones(2))


def test_a_map_of_rank_one_gives_its_row():
    row = torch.tensor([0.1, 0.7, 0.2])
    vector = leading_right_vector(row.expand(1, 3, 3))
    torch.testing.assert_close(vector, (row / row.norm())[None])


def test_a_near_tie_of_singular_values_is_resolved_to_a_thousandth():
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(12, 12, generator=generator)).Q for _ in range(2))
    right = right * right.mean().sign()
    maps = (left * torch.tensor([1.0, 0.95, *[0.3] * 10])) @ right.T
    vector = leading_right_vector(maps[None])[0]
    weight = (maps.mean(dim=0) @ right).abs()
    assert (vector @ right[:, 0]).abs() > 1 - 1e-3 * max(1, (weight[1] / weight[0]).item()) ** 2


def test_a_map_of_zeros_gives_zeros():
    assert torch.equal(leading_right_vector(torch.zeros(2, 4, 4)), torch.zeros(2, 4))


def test_an_even_map_scores_one_everywhere():
    layout = Layout(1, Grid(2, 3))
    zeros = torch.zeros(1, 2, layout.tokens, 4)
    scores, mask = AttentionRank1()(Recording(1, {("query", 1): zeros, ("key", 1): zeros}), layout)
    torch.testing.assert_close(scores, torch.ones(1, 6))
    assert not mask.any()
