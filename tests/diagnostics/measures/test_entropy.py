"""Normalized entropy against doubles, and at the ends of its range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from diagnostics.layout import Grid, Layout
from diagnostics.measures.entropy import Entropy, normalized_entropy


def reference(tokens):
    """In doubles, entry by entry."""
    values = tokens.double().numpy().ravel()
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    return -sum(share * math.log(share) for share in shares if share > 0) / math.log(values.size)


def tokens_of(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 4.0, 30.0, 1000.0])
@pytest.mark.parametrize("shift", [0.0, 300.0])
def test_entropy_equals_the_double_reference(scale, shift):
    tokens = (scale * tokens_of(2, 50, 96) + shift).float()
    normalized = normalized_entropy(tokens)
    for image, entropy in zip(tokens, normalized, strict=True):
        assert entropy.item() == pytest.approx(reference(image), abs=1e-6)


@pytest.mark.parametrize("excess", [5.0, 11.0, 13.0, 40.0, 90.0, 500.0])
def test_one_entry_above_all_others_follows_the_closed_form(excess):
    tokens = torch.full((1, 197, 768), -2.0)
    tokens[0, 3, 41] += excess
    others = 197 * 768 - 1
    total = 1 + others * math.exp(-excess)
    expected = (math.log(total) + others * math.exp(-excess) * excess / total) / math.log(others + 1)
    assert normalized_entropy(tokens).item() == pytest.approx(expected, abs=1e-6)


def test_equal_entries_have_entropy_1_and_a_dominating_one_has_0():
    tokens = torch.full((2, 197, 768), 7.0)
    tokens[1, 0, 0] = 507.0
    even, single = normalized_entropy(tokens).tolist()
    assert even == pytest.approx(1, abs=1e-6)
    assert even <= 1
    assert 0 <= single < 1e-6


def test_two_equal_entries_far_above_share_ln_2():
    tokens = torch.zeros(1, 10, 10)
    tokens[0, 2, 3] = tokens[0, 7, 1] = 300.0
    assert normalized_entropy(tokens).item() == pytest.approx(math.log(2) / math.log(100), abs=1e-6)


def test_entropy_is_blind_to_order_and_to_a_constant():
    tokens = tokens_of(1, 20, 30)
    shuffled = tokens.flatten()[torch.randperm(600, generator=torch.Generator().manual_seed(1))].view(1, 20, 30)
    assert normalized_entropy(shuffled).item() == pytest.approx(normalized_entropy(tokens).item(), abs=1e-6)
    assert normalized_entropy(tokens + 50).item() == pytest.approx(normalized_entropy(tokens).item(), abs=1e-5)


def test_nan_stays_in_its_image():
    tokens = tokens_of(2, 5, 6)
    tokens[0, 1, 1] = math.nan
    first, second = normalized_entropy(tokens)
    assert first.isnan()
    assert second.item() == pytest.approx(reference(tokens[1]), abs=1e-6)


def test_the_input_is_left_alone():
    tokens = tokens_of(2, 5, 6)
    before = tokens.clone()
    normalized_entropy(tokens)
    assert torch.equal(tokens, before)


def test_each_stream_is_measured_over_the_tokens_asked_for(view_of):
    layout = Layout(2, Grid(2, 3))
    taps = {name: 3 * tokens_of(2, 8, 5, seed=seed) for seed, name in enumerate(("block_in", "attn_out", "block_sum"))}
    view = view_of(layout, **taps)
    # As printed, Eq 5 is over hw x d, without the prefix tokens.
    whole, patches = Entropy(tokens="all").measure(view)["entropy"], Entropy().measure(view)["entropy"]
    for place, stream in enumerate(Entropy().coordinates(layout)["stream"]):
        assert whole[1, place].item() == pytest.approx(reference(taps[stream][1]), abs=1e-6)
        assert patches[1, place].item() == pytest.approx(reference(taps[stream][1, 2:]), abs=1e-6)
