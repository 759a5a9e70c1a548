"""Distances between patches: as exact as their differences, and 0 between copies."""

from __future__ import annotations

import torch

from diagnostics.detectors.neighbors import nearest_others, pairwise_distances


def test_distances_are_those_of_the_differences_between_long_patches_too():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, 30, 64, generator=generator)
    patches[:, :6] += 1e4  # long, and close to one another
    exact = (patches[:, :, None].double() - patches[:, None].double()).norm(dim=-1)
    torch.testing.assert_close(pairwise_distances(patches).double(), exact, rtol=1e-6, atol=0)


def test_copies_are_at_no_distance():
    patches = torch.randn(1, 12, 64, generator=torch.Generator().manual_seed(1)) * 100
    patches[0, 4:9] = patches[0, 0]
    distances = pairwise_distances(patches)[0]
    copies = [0, 4, 5, 6, 7, 8]
    assert (distances[copies][:, copies] == 0).all()
    assert (distances[1:4, 1:4][~torch.eye(3, dtype=torch.bool)] > 1).all()


def test_a_patch_is_not_its_own_neighbor():
    line = torch.tensor([0.0, 1.0, 3.0, 7.0])[None, :, None]
    distances, others = nearest_others(line, 2)
    assert distances[0].tolist() == [[1, 3], [1, 2], [2, 3], [4, 6]]
    assert others[0].tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]
