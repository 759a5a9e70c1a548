"""Masks by a second backbone's affinity."""

from __future__ import annotations

import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.images import normalize
from diagnostics.layout import Grid
from diagnostics.measures.similarity import cosine_affinity
from segment.decoding.masks.affinity import AffinityMasks, resampled_patches


def striped(rows: int, cols: int) -> torch.Tensor:
    """Patches (1, N, 2) of three stripes of columns; the first and the last are alike."""
    stripe = (torch.arange(rows * cols) % cols) * 3 // cols
    patches = torch.zeros(1, rows * cols, 2)
    patches[0, :, 0], patches[0, :, 1] = (stripe != 1).float(), (stripe == 1).float()
    return patches


def test_connected_masks_part_what_is_apart_and_clustered_ones_do_not(make_encoding):
    encoding = make_encoding((3, 6), patches=striped(3, 6))
    stripes = (torch.arange(18) % 6) // 2
    connected = AffinityMasks(vfm="self").clusters(encoding)
    assert torch.equal(connected.labels[0], stripes)
    clustered = AffinityMasks(vfm="self", regions="clustered").clusters(encoding)
    assert torch.equal(clustered.labels[0], torch.where(stripes == 2, 0, stripes))
    assert torch.equal(connected.rows, cosine_affinity(striped(3, 6)))


def test_clustered_masks_reach_the_pixels(make_encoding):
    encoding = make_encoding((3, 6), patches=striped(3, 6))
    masks = AffinityMasks(vfm="self", regions="clustered", median=1)(encoding, (48, 96))
    inner = (torch.arange(96) >= 32) & (torch.arange(96) < 64)
    assert torch.equal(masks[0], inner.long().expand(48, 96))


def test_regions_of_few_patches_shape_no_mask_and_numbers_stay_without_a_gap(make_encoding):
    patches = torch.zeros(1, 8, 3)
    patches[0, :, 0] = torch.tensor([0.0, 1, 1, 1, 0, 0, 0, 0])
    patches[0, :, 1] = torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0])
    patches[0, :, 2] = torch.tensor([0.0, 0, 0, 0, 1, 1, 1, 1])
    clusters = AffinityMasks(vfm="self", smallest=2).clusters(make_encoding((2, 4), patches=patches))
    assert clusters.labels.tolist() == [[-1, 0, 0, 0, 1, 1, 1, 1]]


def test_diagonal_neighbors_do_not_touch(make_encoding):
    patches = torch.tensor([[[1.0, 0], [0, 1], [0, 1], [1, 0]]])
    clusters = AffinityMasks(vfm="self", smallest=1).clusters(make_encoding((2, 2), patches=patches))
    assert clusters.labels.tolist() == [[0, 1, 2, 3]]


def test_the_threshold_belongs_to_the_alike(make_encoding):
    patches = torch.tensor([[[1.0, 0.0], [0.6, 0.8]]])
    for threshold, together in ((0.59, True), (0.61, False)):
        part = AffinityMasks(vfm="self", smallest=1, threshold=threshold)
        labels = part.clusters(make_encoding((1, 2), patches=patches)).labels
        assert (labels[0, 0] == labels[0, 1]) == together


def test_a_second_backbone_sees_the_same_image_in_its_own_normalization(make_encoding):
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    backbone = load_backbone("tiny:registers=4")
    images = normalize(image, backbone.mean, backbone.std)
    expected = backbone.layout(images).patches(backbone.project(backbone.trunk(images)))
    clusters = AffinityMasks(vfm="tiny(registers=4)").clusters(make_encoding((4, 6), image=image))
    assert torch.allclose(clusters.rows, cosine_affinity(expected), atol=1e-5)


def test_features_of_a_finer_grid_are_averaged_onto_the_coarser_one_and_not_turned():
    backbone = load_backbone("tiny:patch=8")
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    fine = resampled_patches(backbone, image, Grid(8, 12))
    coarse = resampled_patches(backbone, image, Grid(4, 6))
    expected = fine.unflatten(1, (4, 2, 6, 2)).mean(dim=(2, 4)).flatten(1, 2)
    assert torch.allclose(coarse, expected, atol=1e-5)


def test_a_image_that_is_no_whole_number_of_the_second_ones_patches_is_stretched():
    backbone = load_backbone("tiny:patch=8")
    image = torch.rand(1, 3, 60, 90, generator=torch.Generator().manual_seed(1))
    assert resampled_patches(backbone, image, Grid(4, 6)).shape == (1, 24, 40)


def test_settings_that_mean_nothing_are_refused_and_a_missing_image_is_reported(make_encoding):
    with pytest.raises(ValueError, match="`threshold` should be a cosine"):
        AffinityMasks(threshold=1.5)
    with pytest.raises(ValueError, match="`smallest`"):
        AffinityMasks(smallest=0)
    with pytest.raises(ValueError, match="needs `image`"):
        AffinityMasks(vfm="tiny").clusters(make_encoding((2, 2), patches=torch.rand(1, 4, 2)))
