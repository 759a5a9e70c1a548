"""Received attention counts patch queries alone, in multiples of the even share."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.received_attention import ReceivedAttention
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording

LAYOUTS = [Layout(1, Grid(3, 4)), Layout(0, Grid(2, 5)), Layout(5, Grid(4, 2))]


def recorded(q, k):
    return Recording(1, {("query", 1): q, ("key", 1): k})


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_scores_equal_the_column_means_of_the_matrix(layout):
    generator = torch.Generator().manual_seed(0)
    q, k = (2 * torch.randn(2, 3, layout.tokens, 6, generator=generator) for _ in range(2))
    attention = (q @ k.mT / 6**0.5).softmax(dim=-1)
    scores = ReceivedAttention().score(recorded(q, k), layout)
    for image in range(2):
        for patch in range(layout.count):
            token = layout.prefix + patch
            shares = [attention[image, head, query, token] for head in range(3) for query in range(layout.tokens)]
            from_patches = torch.stack(shares).view(3, -1)[:, layout.prefix :]
            assert scores[image, patch].item() == pytest.approx(layout.tokens * from_patches.mean().item(), rel=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_even_attention_scores_one(layout):
    zeros = torch.zeros(1, 2, layout.tokens, 4)
    scores, mask = ReceivedAttention()(recorded(zeros, zeros), layout)
    torch.testing.assert_close(scores, torch.ones_like(scores))
    assert not mask.any()
