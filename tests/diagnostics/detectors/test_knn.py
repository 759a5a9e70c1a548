"""Distance to the nearest patches: scikit-learn's distances, and scores without a scale."""

from __future__ import annotations

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from diagnostics.detectors.knn import KNearest, neighbor_distance
from diagnostics.layout import Grid, Layout

SQUARE = Layout(0, Grid(14, 14))


@pytest.mark.parametrize("distance", ["mean", "largest"])
def test_distances_are_those_of_scikit_learn(distance):
    patches = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    distances, _ = NearestNeighbors(n_neighbors=7).fit(patches.numpy()).kneighbors()  # without the patch itself
    expected = torch.from_numpy(distances[:, -1] if distance == "largest" else distances.mean(axis=1)).float()
    ours = neighbor_distance(patches[None], neighbors=7, distance=distance)[0]
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_points_on_a_line_give_the_ratios_worked_out_by_hand(recording_of):
    # One neighbor of 0, 1, 3, 13: distances 1, 1, 2, 10, median 1.5.
    points = torch.tensor([[[0.0], [1.0], [3.0], [13.0]]])
    outliers = KNearest(neighbors=1)(recording_of(block_out=points), Layout(0, Grid(1, 4)))
    torch.testing.assert_close(outliers.scores, torch.tensor([[1.0, 1.0, 2.0, 10.0]]) / 1.5)
    assert outliers.mask.tolist() == [[False, False, False, True]]


def test_scores_do_not_change_with_the_scale(planted, recording_of):
    patches, _ = planted(4)
    detector = KNearest()
    once = detector.score(recording_of(block_out=patches), SQUARE)
    torch.testing.assert_close(detector.score(recording_of(block_out=1e-3 * patches), SQUARE), once)


@pytest.mark.parametrize("count, distance", [(0, "mean"), (1, "mean"), (4, "mean"), (10, "mean"), (20, "largest")])
def test_planted_outliers_up_to_the_number_of_neighbors_are_found_exactly(count, distance, planted, recording_of):
    patches, truth = planted(count, 2)
    assert torch.equal(KNearest(distance=distance)(recording_of(block_out=patches), SQUARE).mask, truth)


def test_a_cluster_larger_than_the_neighborhood_is_not_seen(planted, recording_of):
    patches, _ = planted(35)
    assert not KNearest(neighbors=30)(recording_of(block_out=patches), SQUARE).mask.any()


def test_equal_patches_have_score_zero_and_a_zero_median_keeps_the_order(recording_of):
    equal = torch.ones(1, 196, 4)
    assert not KNearest().score(recording_of(block_out=equal), SQUARE).any()
    equal[0, 5], equal[0, 6] = 3.0, 7.0
    scores = KNearest().score(recording_of(block_out=equal), SQUARE)
    assert scores.isfinite().all()
    assert 0 < scores[0, 5] < scores[0, 6]


@pytest.mark.parametrize("settings", [{"neighbors": 0}, {"distance": "least"}, {"threshold": float("nan")}])
def test_settings_without_sense_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` should be"):
        KNearest(**settings)


def test_too_few_patches_are_refused_with_both_numbers():
    assert "6 patches can't have 20 neighbors" in str(KNearest().unsupported_reason(Layout(1, Grid(2, 3))))
