"""The local outlier factor: equal to scikit-learn's, by hand on a line, and blind to large clusters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import LocalOutlierFactor as Reference

from diagnostics.detectors.lof import LocalOutlierFactor, local_outlier_factor
from diagnostics.layout import Grid, Layout

SQUARE = Layout(0, Grid(14, 14))


def reference(patches, neighbors):
    model = Reference(n_neighbors=neighbors).fit(patches.double().numpy())
    return torch.from_numpy(-model.negative_outlier_factor_).float()


@pytest.mark.parametrize("count, width, neighbors", [(196, 64, 20), (49, 192, 30), (30, 3, 1), (35, 5, 34)])
def test_factors_are_those_of_scikit_learn(count, width, neighbors):
    patches = torch.randn(2, count, width, generator=torch.Generator().manual_seed(0))
    patches[0, 3] += 20
    ours = local_outlier_factor(patches, neighbors=neighbors)
    theirs = torch.stack([reference(image, neighbors) for image in patches])
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_copies_of_a_patch_count_as_neighbors_as_in_scikit_learn():
    patches = torch.randn(60, 8, generator=torch.Generator().manual_seed(1))
    patches[10:15] = patches[0]  # fewer copies than neighbors
    torch.testing.assert_close(
        local_outlier_factor(patches[None], neighbors=10)[0], reference(patches, 10), rtol=1e-5, atol=1e-5
    )


def test_long_patches_with_small_differences_keep_their_digits():
    patches = 500 + torch.randn(1, 60, 16, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        local_outlier_factor(patches, neighbors=20)[0], reference(patches[0], 20), rtol=1e-5, atol=1e-5
    )


def test_four_points_on_a_line_give_the_factors_worked_out_by_hand():
    # 0, 1, 2, 5 with one neighbor: k-distances 1, 1, 1, 3, so densities 1, 1, 1, 1/3.
    points = torch.tensor([[[0.0], [1.0], [2.0], [5.0]]])
    torch.testing.assert_close(local_outlier_factor(points, neighbors=1), torch.tensor([[1.0, 1.0, 1.0, 3.0]]))


def test_equal_patches_all_have_factor_one():
    scores = local_outlier_factor(torch.ones(1, 40, 4), neighbors=20)
    assert torch.equal(scores, torch.ones(1, 40))


@pytest.mark.parametrize("count", [1, 4, 10, 19])
def test_clusters_smaller_than_the_neighborhood_are_found_exactly(count, planted, recording_of):
    patches, truth = planted(count, 2)
    assert torch.equal(LocalOutlierFactor()(recording_of(block_out=patches), SQUARE).mask, truth)


def test_recall_falls_once_the_cluster_exceeds_the_neighbors(planted, recording_of):
    detector = LocalOutlierFactor(neighbors=30)
    recalls = {}
    for count in (29, 35):
        patches, truth = planted(count, 2)
        mask = detector(recording_of(block_out=patches), SQUARE).mask
        recalls[count] = ((mask & truth).sum() / truth.sum()).item()
    assert recalls[29] == 1
    assert recalls[35] < 0.1


def test_no_outliers_no_marks(planted, recording_of):
    patches, _ = planted(0, 4)
    assert not LocalOutlierFactor()(recording_of(block_out=patches), SQUARE).mask.any()


def test_too_few_patches_are_refused_with_both_numbers(recording_of):
    layout = Layout(1, Grid(4, 5))
    with pytest.raises(ValueError, match=r"20 patches can't have 20 neighbors.* at most 19, as in lof:neighbors=19"):
        LocalOutlierFactor()(recording_of(block_out=torch.randn(1, 21, 4)), layout)
    assert LocalOutlierFactor(neighbors=19).unsupported_reason(layout) is None


@pytest.mark.parametrize("settings", [{"neighbors": 0}, {"threshold": float("nan")}, {"threshold": 0.0}])
def test_settings_without_sense_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` should be"):
        LocalOutlierFactor(**settings)


def test_another_tap_is_read_where_asked(recording_of):
    tokens = torch.randn(1, 31, 4, generator=torch.Generator().manual_seed(3))
    layout = Layout(1, Grid(5, 6))
    detector = LocalOutlierFactor(tap="normed")
    assert detector.needs == ("normed",)
    scores = detector.score(recording_of(normed=tokens, block_out=torch.zeros(1, 31, 4)), layout)
    np.testing.assert_allclose(scores[0], reference(tokens[0, 1:], 20), rtol=1e-5)
