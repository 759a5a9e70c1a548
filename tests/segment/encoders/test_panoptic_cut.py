"""Panoptic Cut on images made by hand."""

from __future__ import annotations

import pytest
import torch

from segment.encoders.panoptic_cut import panoptic_cut

# Four rows of four patches: a strip of 2, a block of 5, and the ground.
IMAGE = torch.tensor([[0, 0, 2, 2], [2, 2, 2, 2], [1, 1, 2, 2], [1, 1, 1, 2]]).flatten()


# What patches of each kind look like. The last, a border between block and ground, is like both: cosine 0.71.
KINDS = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0.5**0.5, 0.5**0.5, 0]])
BORDERED = IMAGE.clone()
BORDERED[7] = 3


def features(*images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """Patches as their kinds look, with a little noise: (B, 16, 4)."""
    noise = torch.randn(len(images), len(images[0]), 4, generator=torch.Generator().manual_seed(seed))
    return KINDS[torch.stack(images)] + 0.02 * noise


def test_parts_are_cut_off_one_by_one_and_what_is_left_is_the_remainder():
    labels = panoptic_cut(features(BORDERED))[0]
    assert labels.dtype == torch.int64
    assert torch.equal(labels == 0, BORDERED == 0)
    assert (labels[BORDERED == 1] == 1).all()
    assert (labels[BORDERED == 2] == -1).all()
    assert labels.max() == 1


def test_no_more_parts_are_cut_off_than_asked_for():
    regions = panoptic_cut(features(BORDERED), cuts=1)[0]
    assert set(regions.tolist()) == {-1, 0}
    assert (panoptic_cut(features(BORDERED), cuts=0) == -1).all()


def test_a_image_of_one_kind_is_all_remainder():
    assert (panoptic_cut(features(torch.zeros(16, dtype=torch.int64))) == -1).all()


def test_a_higher_threshold_separates_what_a_lower_one_joins():
    two = torch.where(IMAGE == 1, 3, 2)  # cosine 0.71
    assert (panoptic_cut(features(two), tau=0.3) == -1).all()
    assert torch.equal(panoptic_cut(features(two), tau=0.8)[0] == 0, two == 3)


def test_images_of_a_batch_do_not_know_each_other():
    tokens = features(BORDERED, BORDERED.flip(0), IMAGE)
    alone = torch.cat([panoptic_cut(image[None]) for image in tokens])
    assert torch.equal(panoptic_cut(tokens), alone)
    assert torch.equal(alone[1], alone[0].flip(0))


def test_the_same_image_gives_the_same_masks_each_time():
    tokens = torch.randn(1, 60, 8, generator=torch.Generator().manual_seed(3))
    first = panoptic_cut(tokens, cuts=4)
    assert first.max() > 0
    assert all(torch.equal(first, panoptic_cut(tokens, cuts=4)) for _ in range(3))


def test_kinds_without_any_link_to_the_rest_are_cut_off_together():
    assert torch.equal(panoptic_cut(features(IMAGE))[0] == 0, IMAGE < 2)


def test_masks_that_leave_earlier_patches_in_the_graph_may_be_dropped_for_covering_them_again():
    tokens = torch.randn(1, 60, 8, generator=torch.Generator().manual_seed(3))
    strict = panoptic_cut(tokens, cuts=4, earlier="zeroed", conflict=0.0)[0]
    lenient = panoptic_cut(tokens, cuts=4, earlier="zeroed", conflict=1.0)[0]
    assert torch.equal(strict == 0, lenient == 0)
    assert strict.max() < lenient.max()


def test_an_unknown_way_with_earlier_masks_is_refused_by_name():
    with pytest.raises(ValueError, match="zeroed"):
        panoptic_cut(features(BORDERED), earlier="zero")  # type: ignore[arg-type]
