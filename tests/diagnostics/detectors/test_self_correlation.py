"""CLIPtrase's Eq 7: the value it gives, and that with the printed cosines it can mark nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diagnostics.detectors.self_correlation import SelfCorrelation
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording

LAYOUTS = [Layout(1, Grid(3, 4)), Layout(0, Grid(2, 5)), Layout(5, Grid(4, 2))]


def recorded(layout, seed, *, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, layout.tokens, 6)
    values = {name: scale * torch.randn(shape, generator=generator) for name in ("query", "key", "value")}
    return Recording(1, {(name, 1): value.to(dtype) for name, value in values.items()})


def correlation(vectors, weights):
    """w of one head, written out as a matrix."""
    if weights == "softmax":
        return (vectors @ vectors.T / vectors.shape[-1] ** 0.5).softmax(dim=-1)
    if weights == "cosine":
        vectors = F.normalize(vectors, dim=-1)
    return vectors @ vectors.T


@pytest.mark.parametrize("weights", ["cosine", "softmax", "inner-product"])
@pytest.mark.parametrize("tokens", ["patches", "all"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_scores_equal_those_of_the_matrix_written_out(layout, tokens, weights):
    recording = recorded(layout, 0)
    scores = SelfCorrelation(weights=weights, tokens=tokens).score(recording, layout)
    for image in range(2):
        total = 0
        for name in ("query", "key", "value"):
            for head in recording[name][image].double():
                chosen = head[layout.prefix :] if tokens == "patches" else head
                total = total + correlation(chosen, weights) / 9
        start = 0 if tokens == "patches" else layout.prefix
        for patch in range(layout.count):
            row = total[start + patch]
            expected = (row.mean() - row[start + patch]).item()
            assert scores[image, patch].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("tokens", ["patches", "all"])
def test_with_cosines_it_can_never_fire(layout, tokens):
    detector = SelfCorrelation(tokens=tokens)
    for seed in range(40):
        scores, mask = detector(recorded(layout, seed, scale=10.0 ** (seed % 7 - 3)), layout)
        assert not mask.any()
        assert (scores < -0.1).all() or tokens == "all"
    # Nor where all tokens are the same, and every cosine is 1 but for rounding.
    for seed in range(40):
        recording = recorded(layout, seed)
        same = Recording(1, {place: value[:, :, :1].expand_as(value) for place, value in recording.values.items()})
        scores, mask = detector(same, layout)
        torch.testing.assert_close(scores, torch.zeros_like(scores), rtol=0, atol=1e-6)
        assert not mask.any()


@pytest.mark.parametrize("weights", ["softmax", "inner-product"])
def test_with_the_other_weights_it_marks_a_short_patch_among_long_ones(weights):
    layout = Layout(1, Grid(2, 3))
    vectors = torch.zeros(1, 1, 7, 4)
    vectors[..., 0] = 4.0
    vectors[0, 0, 3, 0] = 1.0
    recording = Recording(1, {(name, 1): vectors for name in ("query", "key", "value")})
    mask = SelfCorrelation(weights=weights)(recording, layout).mask
    assert mask[0, 2]
    assert mask.sum() == 1
    assert not SelfCorrelation()(recording, layout).mask.any()


@pytest.mark.parametrize("settings", [{"weights": "dot"}, {"tokens": "class"}])
def test_settings_without_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="should be"):
        SelfCorrelation(**settings)
