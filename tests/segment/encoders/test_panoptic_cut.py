"""Panoptic Cut on images made by hand, and its rules one by one."""

from __future__ import annotations

import pytest
import torch

from diagnostics.layout import Grid
from segment.encoders.panoptic_cut import panoptic_cut, seed_part

# Four rows of four patches: a strip of 2, a block of 5, and the ground.
IMAGE = torch.tensor([[0, 0, 2, 2], [2, 2, 2, 2], [1, 1, 2, 2], [1, 1, 1, 2]]).flatten()
GRID = Grid(4, 4)


# What patches of each kind look like. The last, a border between block and ground, is like both: cosine 0.71.
KINDS = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0.5**0.5, 0.5**0.5, 0]])
BORDERED = IMAGE.clone()
BORDERED[7] = 3


def features(*images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Patches as their kinds look, with a little noise: (B, 16, 4)."""
    noise = torch.randn(len(images), len(images[0]), 4, generator=torch.Generator().manual_seed(seed))
    return KINDS[torch.stack(images)] + 0.02 * noise


def test_parts_are_cut_off_one_by_one_and_what_is_left_is_the_remainder():
    labels = panoptic_cut(features(BORDERED), GRID)[0]
    assert labels.dtype == torch.int64
    assert torch.equal(labels == 0, BORDERED == 0)
    assert labels.max() >= 1
    assert (labels == -1).any()


def test_no_more_parts_are_cut_off_than_asked_for():
    regions = panoptic_cut(features(BORDERED), GRID, cuts=1)[0]
    assert set(regions.tolist()) == {-1, 0}
    assert (panoptic_cut(features(BORDERED), GRID, cuts=0) == -1).all()


def test_it_ends_with_five_patches_left():
    tokens = torch.randn(1, 48, 8, generator=torch.Generator().manual_seed(3))
    labels = panoptic_cut(tokens, Grid(6, 8), cuts=100)[0]
    sizes = [int((labels == number).sum()) for number in range(int(labels.max()) + 1)]
    assert 48 - sum(sizes[:-1]) > 5
    assert (panoptic_cut(tokens[:, :5], Grid(1, 5)) == -1).all()


@pytest.mark.parametrize("rows, cols", [(4, 4), (10, 10), (12, 12)])
def test_patches_that_are_all_linked_alike_are_cut_as_well_unless_it_shall_stop_there(rows, cols):
    alike = torch.ones(1, rows * cols, 4)
    assert (panoptic_cut(alike, Grid(rows, cols), tau=0.0, stop_alike=True) == -1).all()
    assert panoptic_cut(alike, Grid(rows, cols), tau=0.0, cuts=2).max() >= 0


def test_images_of_a_batch_do_not_know_each_other():
    tokens = features(BORDERED, BORDERED.flip(0), IMAGE)
    alone = torch.cat([panoptic_cut(image[None], GRID) for image in tokens])
    assert torch.equal(panoptic_cut(tokens, GRID), alone)


def test_the_same_image_gives_the_same_masks_each_time():
    tokens = torch.randn(1, 60, 8, generator=torch.Generator().manual_seed(3))
    first = panoptic_cut(tokens, Grid(6, 10), cuts=4)
    assert first.max() > 0
    assert all(torch.equal(first, panoptic_cut(tokens, Grid(6, 10), cuts=4)) for _ in range(3))


def part(x: list[list[float]], taken: list[int] | None = None) -> list[list[int]]:
    """The mask of an eigenvector that is drawn as a map, with the patches `taken` in masks already."""
    values = torch.tensor(x, dtype=torch.float64)
    nodes = torch.tensor([node for node in range(values.numel()) if node not in (taken or [])])
    mask = seed_part(values.flatten()[nodes], nodes, Grid(*values.shape))
    return mask.view(values.shape).int().tolist()


def test_only_the_piece_that_holds_the_seed_is_the_mask():
    # Above the mean: 5, 4 beside it, and two others that touch by a corner or not at all.
    assert part([[0, 0, 0, 0], [0, 5, 4, 0], [0, 0, 0, 3], [3, 0, 0, 0]]) == [
        [0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0],
    ]  # fmt: skip


def test_a_part_with_three_corners_is_the_ground():
    assert part([[5, 5, 5], [5, 0, 5], [5, 5, 0]]) == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert part([[5, 5, 5], [0, 0, 0], [0, 0, 0]]) == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]


def test_the_side_of_the_largest_size_is_taken():
    assert part([[1, 1, 1], [1, -9, 1], [0.9, 1, 0.9]]) == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert part([[-9, 1, -1], [-1, 1, 1], [-1, 1, -1]]) == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]


def test_patches_of_earlier_masks_are_in_no_part():
    assert part([[0, 0, 0, 0], [0, 5, 9, 4], [0, 0, 0, 0]], taken=[6]) == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
