"""A massive activation passes both lines; the score exceeds 1 exactly then."""

from __future__ import annotations

import math

import pytest
import torch

from diagnostics.detectors.massive import Massive
from diagnostics.layout import Grid, Layout
from diagnostics.measures.channels import massive_activations
from diagnostics.taps import Recording

LAYOUT = Layout(1, Grid(2, 3))


def recorded(tokens):
    return Recording(1, {("block_out", 1): tokens})


def test_a_image_worked_out_by_hand():
    # Entries of size 0.05 are most, so the median is 0.05 and the relative line 50: the absolute line of 100 decides.
    tokens = torch.full((1, 7, 4), 0.05)
    tokens[0, 1, 2], tokens[0, 2, 3], tokens[0, 3, 0] = -150.0, 100.0, 60.0
    scores, mask = Massive()(recorded(tokens), LAYOUT)
    torch.testing.assert_close(scores, torch.tensor([[1.5, 1.0, 0.6, 0.0005, 0.0005, 0.0005]]))
    assert mask.tolist() == [[True, False, False, False, False, False]]
    # Four times as large, the relative line is 200 and decides.
    scores, mask = Massive()(recorded(4 * tokens), LAYOUT)
    torch.testing.assert_close(scores[0, :3], torch.tensor([3.0, 2.0, 1.2]))
    assert mask.tolist() == [[True, True, True, False, False, False]]


@pytest.mark.parametrize("seed", range(5))
def test_marks_are_those_of_the_two_tests_in_some_channel(seed):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(4, 7, 16, generator=generator).pow(9)
    tokens[3] = 100.0  # on the line, not above it
    expected = massive_activations(tokens, absolute=100, ratio=1000)[:, 1:].any(dim=2)
    assert expected[:3].any()
    assert torch.equal(Massive()(recorded(tokens), LAYOUT).mask, expected)


def test_the_score_falls_out_above_one_for_the_next_number_above_the_line():
    for line in (100.0, 127.99999, 1.0):
        tokens = torch.full((1, 7, 4), 1e-6)
        tokens[0, 3, 0] = line
        assert not Massive(absolute=line)(recorded(tokens), LAYOUT).mask.any()
        tokens[0, 3, 0] = torch.nextafter(tokens[0, 3, 0], torch.tensor(math.inf))
        assert Massive(absolute=line)(recorded(tokens), LAYOUT).mask.sum() == 1


def test_prefix_tokens_enter_the_median_unless_left_out():
    layout = Layout(3, Grid(1, 2))
    tokens = torch.ones(1, 5, 1)
    tokens[0, :3] = 0.001
    tokens[0, 3] = 500.0
    assert Massive()(recorded(tokens), layout).mask.tolist() == [[True, False]]
    scores = Massive(tokens="patches")(recorded(tokens), layout).scores
    torch.testing.assert_close(scores, torch.tensor([[0.5, 0.001]]))


@pytest.mark.parametrize("settings", [{"absolute": 0}, {"ratio": -1}, {"ratio": math.nan}, {"tokens": "none"}])
def test_lines_that_are_no_lines_are_refused(settings):
    with pytest.raises(ValueError, match="should be"):
        Massive(**settings)
