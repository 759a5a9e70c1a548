"""SC-CLIP's density ratio: a slow plain loop, its fixed share, and its blindness to large clusters."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.base import largest
from diagnostics.detectors.lof_release import LofRelease, density_ratio
from diagnostics.layout import Grid, Layout

SQUARE = Layout(0, Grid(14, 14))


def slow_ratio(patches, neighbors):
    """Written from the description: squared distances, own k-distance in the reachability, density from its mean."""
    points = [row.double() for row in patches]
    near, densities = [], []
    for number, point in enumerate(points):
        squared = sorted((float(((point - other) ** 2).sum()), at) for at, other in enumerate(points) if at != number)
        chosen = squared[:neighbors]
        reach = [max(distance, chosen[-1][0]) for distance, _ in chosen]
        near.append([at for _, at in chosen])
        densities.append(neighbors / sum(reach))
    return torch.tensor(
        [sum(densities[at] for at in near[i]) / neighbors / densities[i] for i in range(len(points))],
        dtype=torch.float32,
    )


@pytest.mark.parametrize("count, width, neighbors", [(49, 16, 30), (40, 3, 5)])
def test_ratio_is_that_of_a_slow_plain_loop(count, width, neighbors):
    patches = torch.randn(1, count, width, generator=torch.Generator().manual_seed(0))
    patches[0, 7] *= 30
    expected = slow_ratio(patches[0], neighbors)
    torch.testing.assert_close(density_ratio(patches, neighbors=neighbors)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grid, marked", [(Grid(14, 14), 10), (Grid(16, 16), 13), (Grid(7, 7), 3), (Grid(12, 20), 12)])
def test_the_share_is_the_released_number_of_tokens(grid, marked, recording_of):
    tokens = torch.randn(3, grid.patches, 32, generator=torch.Generator().manual_seed(1))
    mask = LofRelease()(recording_of(block_out=tokens), Layout(0, grid)).mask
    assert mask.sum(dim=1).tolist() == [marked] * 3


@pytest.mark.parametrize("count", [1, 4, 10])
def test_planted_outliers_have_the_largest_scores(count, planted, recording_of):
    patches, truth = planted(count, 2)
    outliers = LofRelease()(recording_of(block_out=patches), SQUARE)
    assert torch.equal(largest(outliers.scores, count), truth)
    assert (outliers.mask & truth).sum() == truth.sum()


def test_recall_falls_once_the_cluster_exceeds_the_neighbors(planted, recording_of):
    recalls = {}
    for count in (29, 35):
        patches, truth = planted(count, 2)
        scores = LofRelease().score(recording_of(block_out=patches), SQUARE)
        recalls[count] = ((largest(scores, count) & truth).sum() / truth.sum()).item()
    assert recalls[29] == 1
    assert recalls[35] < 0.25


def test_equal_patches_have_ratio_one_and_none_is_marked(recording_of):
    outliers = LofRelease()(recording_of(block_out=torch.ones(1, 196, 4)), SQUARE)
    assert torch.equal(outliers.scores, torch.ones(1, 196))
    assert not outliers.mask.any()
    assert LofRelease.quota


def test_too_few_patches_are_refused_with_both_numbers():
    assert "25 patches can't have 30 neighbors" in str(LofRelease().unsupported_reason(Layout(1, Grid(5, 5))))


@pytest.mark.parametrize("settings", [{"neighbors": 0}, {"contamination": 1.5}, {"contamination": float("nan")}])
def test_settings_without_sense_are_refused_by_name(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` should be"):
        LofRelease(**settings)
