"""What all detectors of outlying points share: batches, damaged images, precision, shapes and permutations."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.isolation_forest import IsolationForest
from diagnostics.detectors.knn import KNearest
from diagnostics.detectors.lof import LocalOutlierFactor
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.detectors.mahalanobis import Mahalanobis
from diagnostics.detectors.random import RandomScores
from diagnostics.layout import Grid, Layout

DETECTORS = [
    LocalOutlierFactor(neighbors=10),
    LofRelease(neighbors=10),
    KNearest(neighbors=10),
    Mahalanobis(),
    IsolationForest(trees=10),
    RandomScores(count=3),
]
LAYOUTS = [Layout(0, Grid(4, 9)), Layout(1, Grid(9, 4)), Layout(5, Grid(1, 36))]


@pytest.fixture(params=DETECTORS, ids=lambda part: type(part).__name__)
def detector(request):
    return request.param


@pytest.fixture(params=LAYOUTS, ids=lambda layout: f"prefix {layout.prefix}")
def layout(request):
    return request.param


@pytest.fixture
def tokens(layout):
    tokens = torch.randn(3, layout.tokens, 24, generator=torch.Generator().manual_seed(0))
    tokens[:, layout.prefix + 7] *= 40
    tokens[:, : layout.prefix] = 1e4  # must not be looked at
    return tokens


def test_a_batch_equals_its_images_one_by_one_and_nothing_is_changed(detector, layout, tokens, recording_of):
    before = tokens.clone()
    scores, mask = detector(recording_of(block_out=tokens), layout)
    assert torch.equal(tokens, before)
    assert scores.shape == mask.shape == (3, 36)
    assert scores.dtype == torch.float32
    for number in range(3):
        alone = detector(recording_of(block_out=tokens[number : number + 1]), layout)
        torch.testing.assert_close(alone.scores[0], scores[number], rtol=1e-5, atol=1e-6)
        assert torch.equal(alone.mask[0], mask[number])


@pytest.mark.parametrize("damage", [torch.nan, torch.inf])
def test_a_damaged_image_has_nan_scores_and_leaves_the_others_alone(detector, layout, tokens, damage, recording_of):
    whole = detector(recording_of(block_out=tokens), layout)
    tokens[1, layout.prefix + 3, 5] = damage
    scores, mask = detector(recording_of(block_out=tokens), layout)
    assert scores[1].isnan().all()
    assert not mask[1].any()
    for number in (0, 2):
        torch.testing.assert_close(scores[number], whole.scores[number], rtol=1e-5, atol=1e-6)
        assert torch.equal(mask[number], whole.mask[number])


def test_half_precision_tokens_are_scored_in_fp32(detector, layout, tokens, recording_of):
    half = detector.score(recording_of(block_out=tokens.bfloat16()), layout)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, detector.score(recording_of(block_out=tokens.bfloat16().float()), layout))


@pytest.mark.parametrize("part", DETECTORS[:4], ids=lambda part: type(part).__name__)
def test_scores_follow_a_permutation_of_the_patches(part, layout, tokens, recording_of):
    order = torch.randperm(36, generator=torch.Generator().manual_seed(1))
    scores = part.score(recording_of(block_out=tokens), layout)
    shuffled = torch.cat([tokens[:, : layout.prefix], layout.patches(tokens)[:, order]], dim=1)
    torch.testing.assert_close(part.score(recording_of(block_out=shuffled), layout), scores[:, order])


def test_equal_patches_have_finite_scores(detector, layout, recording_of):
    for value in (0.0, 3.7):
        assert detector.score(recording_of(block_out=torch.full((1, layout.tokens, 8), value)), layout).isfinite().all()


def test_the_source_of_the_threshold_is_reported(detector):
    assert detector.published
    assert detector.needs == ("block_out",)
