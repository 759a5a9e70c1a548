"""Random scores: uniform, seeded, the same for an image in every batch."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from diagnostics.detectors.random import RandomScores
from diagnostics.layout import Grid, Layout

SQUARE = Layout(0, Grid(14, 14))


def test_scores_are_uniform_and_differ_between_images_and_seeds(planted, recording_of):
    patches, _ = planted(0, 5)
    scores = RandomScores().score(recording_of(block_out=patches), SQUARE)
    assert stats.kstest(scores.flatten().numpy(), "uniform").pvalue > 0.01
    assert len({tuple(row.tolist()) for row in scores}) == 5
    assert not torch.equal(RandomScores(seed=1).score(recording_of(block_out=patches), SQUARE), scores)


def test_a_change_in_the_last_digit_changes_no_score(planted, recording_of):
    patches, _ = planted(0, 2)
    scores = RandomScores().score(recording_of(block_out=patches), SQUARE)
    assert torch.equal(RandomScores().score(recording_of(block_out=patches * (1 + 1e-6)), SQUARE), scores)


@pytest.mark.parametrize("count", [0, 10, 300])
def test_the_count_is_marked_and_never_more_than_there_are(count, planted, recording_of):
    patches, _ = planted(0, 2)
    outliers = RandomScores(count=count)(recording_of(block_out=patches), SQUARE)
    assert outliers.mask.sum(dim=1).tolist() == [min(count, 196)] * 2
    assert RandomScores.quota


def test_no_global_random_state_is_touched(planted, recording_of):
    patches, _ = planted(0)
    before = torch.get_rng_state()
    RandomScores()(recording_of(block_out=patches), SQUARE)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="`count` should be at least 0"):
        RandomScores(count=-1)
