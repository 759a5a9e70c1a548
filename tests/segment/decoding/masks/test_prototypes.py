"""Prototypes of clusters, and where each is the largest."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from segment.decoding.masks.prototypes import mean_rows, prototype_regions


def test_a_prototype_is_the_mean_row_of_its_cluster_without_the_noise():
    rows = torch.tensor([[1.0, 0], [3, 4], [100, 100], [5, 6]])
    assert torch.equal(mean_rows(rows, torch.tensor([0, 1, -1, 1])), torch.tensor([[1.0, 0], [4, 5]]))


def test_without_clusters_there_are_no_prototypes_and_every_pixel_is_nowhere():
    none = mean_rows(torch.rand(6, 6), torch.full((6,), -1))
    assert none.shape == (0, 6)
    assert torch.equal(prototype_regions(none.unflatten(1, (2, 3)), (4, 5)), torch.full((4, 5), -1))


def test_the_largest_prototype_takes_the_pixel_and_of_equal_ones_the_first():
    prototypes = torch.zeros(3, 2, 3)
    prototypes[1, :, 2] = 1
    prototypes[2, 0, 0] = 1
    regions = prototype_regions(prototypes, (2, 3), enlarge=1, median=1)
    assert regions.tolist() == [[2, 0, 1], [0, 0, 1]]


def slow_median(maps: np.ndarray, width: int) -> np.ndarray:
    """A median over width x width places, the map continued by its mirror image, edge included."""
    half, smoothed = width // 2, np.empty_like(maps)
    for k, values in enumerate(maps):
        large = np.pad(values, half, mode="symmetric")
        for i in range(values.shape[0]):
            for j in range(values.shape[1]):
                smoothed[k, i, j] = np.median(large[i : i + width, j : j + width])
    return smoothed


def test_prototypes_are_enlarged_then_smoothed_then_resized_on_grids_that_are_not_square():
    prototypes = torch.rand(3, 3, 5, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(prototypes[None], size=(12, 20), mode="bilinear", align_corners=False)[0]
    smooth = torch.from_numpy(slow_median(large.numpy(), 7))
    expected = F.interpolate(smooth[None], size=(48, 80), mode="bilinear", align_corners=False)[0].argmax(dim=0)
    regions = prototype_regions(prototypes, (48, 80))
    assert torch.equal(regions, expected)
    assert not torch.equal(regions, prototype_regions(prototypes, (48, 80), median=1))
