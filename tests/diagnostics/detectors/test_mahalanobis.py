"""Mahalanobis distance: scikit-learn's shrunk covariance and distances, few patches, planted outliers."""

from __future__ import annotations

import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from diagnostics.detectors.mahalanobis import Mahalanobis, mahalanobis_distance, shrunk_covariance
from diagnostics.layout import Grid, Layout

SQUARE = Layout(0, Grid(14, 14))


@pytest.mark.parametrize("count, width", [(200, 5), (49, 192), (3, 8)])
def test_covariance_and_distances_are_those_of_scikit_learn(count, width):
    patches = torch.randn(2, count, width, generator=torch.Generator().manual_seed(0)).double()
    patches[..., 0] *= 30
    for image, ours, distances in zip(
        patches, shrunk_covariance(patches - patches.mean(1, keepdim=True)), mahalanobis_distance(patches), strict=True
    ):
        reference = LedoitWolf().fit(image.numpy())
        torch.testing.assert_close(ours, torch.from_numpy(reference.covariance_), rtol=1e-8, atol=1e-8)
        expected = torch.from_numpy(reference.mahalanobis(image.numpy())).sqrt().float()
        torch.testing.assert_close(distances, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 4, 10, 35])
def test_planted_outliers_are_found_exactly(count, planted, recording_of):
    patches, truth = planted(count, 2)
    assert torch.equal(Mahalanobis()(recording_of(block_out=patches), SQUARE).mask, truth)


def test_a_wide_channel_is_no_outlier_and_hides_none(planted, recording_of):
    patches, truth = planted(4, 2)
    patches[:, :, 0] += 10 * patches[:, :, 1].flip(1)
    areas = roc_auc_score(truth.flatten(), Mahalanobis().score(recording_of(block_out=patches), SQUARE).flatten())
    assert areas == 1


def test_outliers_stretch_the_spread_of_all_patches_and_hide_behind_it(planted, recording_of):
    areas = {}
    for kept in (0.75, 1.0):
        patches, truth = planted(10)
        areas[kept] = roc_auc_score(truth[0], Mahalanobis(kept=kept).score(recording_of(block_out=patches), SQUARE)[0])
    assert areas[0.75] == 1
    assert areas[1.0] < 0.1


def test_no_outliers_no_marks(planted, recording_of):
    patches, _ = planted(0, 4)
    assert not Mahalanobis()(recording_of(block_out=patches), SQUARE).mask.any()


def test_equal_patches_have_score_zero(recording_of):
    assert not Mahalanobis().score(recording_of(block_out=torch.full((1, 196, 4), 7.3)), SQUARE).any()


def test_one_patch_and_a_threshold_that_is_no_number_are_refused():
    assert "1 patch has no spread" in str(Mahalanobis().unsupported_reason(Layout(1, Grid(1, 1))))
    with pytest.raises(ValueError, match="`threshold` should be above 0"):
        Mahalanobis(threshold=float("nan"))
    with pytest.raises(ValueError, match="`kept` should be a share"):
        Mahalanobis(kept=0.0)
