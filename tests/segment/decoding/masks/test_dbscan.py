"""Density clusters of patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segment.decoding.masks import MASKS
from segment.decoding.masks.dbscan import Dbscan, density_settings


def slow_dbscan(points: np.ndarray, eps: float, min_samples: int) -> list[int]:
    """Density clusters by the book: cores chain through neighbors, the first core in order opens a cluster."""
    near = [[j for j in range(len(points)) if np.linalg.norm(points[i] - points[j]) <= eps] for i in range(len(points))]
    labels, cluster = [-1] * len(points), -1
    for start in range(len(points)):
        if labels[start] != -1 or len(near[start]) < min_samples:
            continue
        cluster += 1
        labels[start], waiting = cluster, [start]
        while waiting:
            core = waiting.pop()
            for other in near[core]:
                if labels[other] == -1:
                    labels[other] = cluster
                    if len(near[other]) >= min_samples:
                        waiting.append(other)
    return labels


def test_clusters_are_those_of_a_slow_transcription_of_equation_4(make_encoding):
    generator = torch.Generator().manual_seed(2)
    affinity = torch.rand(2, 24, 24, generator=generator)
    affinity[:, 5:12] = affinity[:, 5:6] + 0.3 * torch.rand(2, 7, 24, generator=generator)
    affinity[:, 15:20] = affinity[:, 15:16] + 0.3 * torch.rand(2, 5, 24, generator=generator)
    encoding = make_encoding((4, 6), affinity=affinity, kept=torch.ones(2, 24, dtype=torch.bool))
    for unit_rows, eps in ((False, 1.0), (True, 0.25)):
        clusters = Dbscan(eps=eps, min_samples=3, unit_rows=unit_rows).clusters(encoding)
        for image, labels in zip(affinity.numpy(), clusters.labels.tolist(), strict=True):
            points = image / np.linalg.norm(image, axis=1, keepdims=True) if unit_rows else image
            assert labels == slow_dbscan(points, eps, 3)
            assert len(set(labels)) >= 3
        assert torch.equal(clusters.rows, affinity)


def test_patches_that_were_not_kept_are_noise_and_shape_no_prototype(make_encoding, halves):
    kept = torch.ones(1, 24, dtype=torch.bool)
    kept[0, [0, 23]] = False
    clusters = Dbscan(eps=0.5, min_samples=2).clusters(make_encoding((4, 6), affinity=halves(4, 6), kept=kept))
    expected = (torch.arange(24) % 6 >= 3).long()
    expected[[0, 23]] = -1
    assert torch.equal(clusters.labels[0], expected)


def test_with_no_patch_kept_all_is_noise(make_encoding, halves):
    encoding = make_encoding((4, 6), affinity=halves(4, 6), kept=torch.zeros(1, 24, dtype=torch.bool))
    assert (Dbscan().clusters(encoding).labels == -1).all()
    assert torch.equal(Dbscan()(encoding, (64, 96)), torch.full((1, 64, 96), -1))


def test_two_halves_of_a_window_become_its_two_masks(make_encoding, halves):
    encoding = make_encoding((4, 6), affinity=halves(4, 6), kept=torch.ones(1, 24, dtype=torch.bool))
    regions = Dbscan(eps=0.5, min_samples=2, median=1)(encoding, (64, 96))
    assert torch.equal(regions[0], (torch.arange(96) >= 48).long().expand(64, 96))


def test_features_can_be_clustered_in_place_of_correlations(make_encoding, halves):
    patches = torch.zeros(1, 24, 2)
    top = torch.arange(24) < 12
    patches[0, top, 0], patches[0, ~top, 1] = 5.0, 0.1  # of any length
    encoding = make_encoding((4, 6), affinity=halves(4, 6), kept=torch.ones(1, 24, dtype=torch.bool), patches=patches)
    clusters = Dbscan(eps=0.5, min_samples=2, on="features").clusters(encoding)
    assert torch.equal(clusters.labels[0], (~top).long())
    assert torch.equal(clusters.rows, halves(4, 6))


def test_the_released_settings_hold_for_their_grids_and_a_power_law_between_and_beyond():
    assert density_settings(196) == (0.7, 3)
    assert density_settings(441) == (1.1, 7)
    near, far = density_settings(49)[0], density_settings(784)[0]
    # On a power law, the grid of a quarter and that of four times the patches lie as far apart as their ratio says.
    assert near * far == pytest.approx(0.7**2)
    assert 0.7 < density_settings(294)[0] < 1.1
    assert [density_settings(count)[1] for count in (1, 24, 294, 1024)] == [2, 2, 5, 17]


def test_settings_given_stand_against_the_rule(make_encoding, halves):
    encoding = make_encoding((4, 6), affinity=halves(4, 6), kept=torch.ones(1, 24, dtype=torch.bool))
    assert (Dbscan(min_samples=13).clusters(encoding).labels == -1).all()
    assert (Dbscan(min_samples=12).clusters(encoding).labels >= 0).all()
    assert (Dbscan(eps=100.0).clusters(encoding).labels == 0).all()


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ValueError, match=r"`eps` should be above 0 .* a distance"):
        Dbscan(eps=0.0)
    with pytest.raises(ValueError, match="`min_samples`"):
        Dbscan(min_samples=0)
    with pytest.raises(ValueError, match="`median` should be an odd width"):
        Dbscan(median=4)
    with pytest.raises(ValueError, match="`enlarge`"):
        Dbscan(enlarge=0)


def test_an_encoder_without_an_affinity_is_shown_what_is_missing(make_encoding):
    with pytest.raises(ValueError, match=r"needs `affinity`.*there is outliers"):
        Dbscan().clusters(make_encoding((4, 6), outliers=torch.zeros(1, 24)))


def test_specs_name_mask_sources_and_their_settings():
    assert MASKS.build("dbscan(eps=1.1,min_samples=7)") == Dbscan(eps=1.1, min_samples=7)
    assert MASKS.build("dbscan:eps=none") == Dbscan()
