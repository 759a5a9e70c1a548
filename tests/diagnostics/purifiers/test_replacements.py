"""Purifiers that don't interpolate, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from diagnostics.layout import Grid, Layout
from diagnostics.purifiers import PURIFIERS
from diagnostics.purifiers.class_token import ClassToken
from diagnostics.purifiers.clip_channels import ClipChannels
from diagnostics.purifiers.image_mean import ImageMean
from diagnostics.purifiers.low_pass import LowPass
from diagnostics.purifiers.shuffle import Shuffle

LINE = Layout(1, Grid(1, 5))


def marks(*places: int, count: int = 5) -> torch.Tensor:
    mask = torch.zeros(1, count, dtype=torch.bool)
    mask[0, list(places)] = True
    return mask


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1)


def test_the_class_token_takes_the_place_of_marked_patches_of_its_own_image():
    patches = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    token = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    mask = torch.cat([marks(1, 4), marks(0)])
    cleaned = ClassToken()(patches, mask, LINE, class_token=token)
    assert torch.equal(cleaned[0, [1, 4]], token[[0, 0]])
    assert torch.equal(cleaned[1, 0], token[1])


def test_a_class_token_that_is_missing_or_of_another_shape_is_refused():
    patches = torch.zeros(2, 5, 3)
    mask = torch.cat([marks(), marks()])
    with pytest.raises(ValueError, match="needs `class_token`"):
        ClassToken()(patches, mask, LINE)
    with pytest.raises(ValueError, match=r"`class_token` should be \(B, D\) = \(2, 3\); got \(1, 3\)"):
        ClassToken()(patches, mask, LINE, class_token=torch.zeros(1, 3))


def test_the_image_mean_is_that_of_unmarked_patches():
    patches = torch.cat([column(1, 900, 2, 6, -300), column(70, 8, 20, 5, 9)])
    cleaned = ImageMean()(patches, torch.cat([marks(1, 4), marks(0)]), LINE)
    assert cleaned[..., 0].tolist() == [[1, 3, 2, 6, 3], [10.5, 8, 20, 5, 9]]


def test_only_dominant_channels_are_clipped_and_keep_their_sign():
    # Channel 0 peaks at 50 against a median of 2 and is clipped to 3; channel 1 stays: 6 is within 5 x 2.
    patches = torch.tensor([[[1.0, 2], [-50, 6], [-3, -1], [2, 2], [2.5, -5]]])
    cleaned = ClipChannels()(patches, marks(1, 4), LINE)
    assert cleaned[0].tolist() == [[1, 2], [-3, 6], [-3, -1], [2, 2], [2.5, -5]]
    assert ClipChannels(ratio=2.5)(patches, marks(1, 4), LINE)[0, :, 1].tolist() == [2, 2, -1, 2, -2]
    assert torch.equal(ClipChannels(ratio=30)(patches, marks(1, 4), LINE), patches)


def test_nan_stays_in_its_place_and_does_not_hide_an_outlier_from_clipping():
    cleaned = ClipChannels()(column(1, torch.nan, 2, torch.inf, -80), marks(1, 3, 4), LINE)
    assert cleaned[0, 1].isnan()
    assert cleaned[0, [0, 2, 3, 4], 0].tolist() == [1, 2, 2, -2]


def test_the_box_low_pass_is_average_pooling_of_the_whole_map_at_marked_places():
    grid = Grid(5, 7)
    layout = Layout(1, grid)
    patches = torch.randn(3, 35, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.rand(3, 35, generator=torch.Generator().manual_seed(2)) < 0.5
    for size in (1, 3, 5):
        pooled = torch.nn.functional.avg_pool2d(
            layout.to_map(patches).movedim(-1, 1), size, stride=1, padding=size // 2, count_include_pad=False
        )
        expected = torch.where(mask[..., None], layout.to_patches(pooled.movedim(1, -1)), patches)
        torch.testing.assert_close(LowPass(size=size)(patches, mask, layout), expected, atol=1e-6, rtol=1e-6)


def test_the_gaussian_low_pass_has_the_weights_of_its_width():
    side = torch.exp(torch.tensor(-1 / (2 * 0.5**2))).item()
    cleaned = LowPass(kernel="gaussian", sigma=0.5)(column(1, 100, 3, 4, 5), marks(1, 4), LINE)
    assert cleaned[0, 1, 0].item() == pytest.approx((100 + side * (1 + 3)) / (1 + 2 * side), rel=1e-6)
    assert cleaned[0, 4, 0].item() == pytest.approx((5 + side * 4) / (1 + side), rel=1e-6)


def test_the_low_pass_keeps_a_share_of_the_outlier_that_the_neighbor_mean_drops():
    patches, mask = column(1, 1, 301, 1, 1), marks(2)
    assert LowPass()(patches, mask, LINE)[0, 2, 0].item() == pytest.approx(101)
    assert PURIFIERS.build("neighbor-mean")(patches, mask, LINE)[0, 2, 0].item() == 1


@pytest.mark.parametrize("settings", [{"size": 2}, {"size": 0}, {"kernel": "round"}, {"sigma": 0.0}])
def test_low_pass_settings_without_meaning_are_refused(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` should be"):
        LowPass(**settings)


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan")])
def test_a_clipping_ratio_that_is_not_positive_is_refused(ratio):
    with pytest.raises(ValueError, match="`ratio` should be above 0"):
        ClipChannels(ratio=ratio)


def test_shuffle_takes_unmarked_patches_of_the_same_image_only():
    patches = torch.arange(2 * 40.0).view(2, 40, 1)
    mask = torch.rand(2, 40, generator=torch.Generator().manual_seed(3)) < 0.5
    cleaned = Shuffle()(patches, mask, Layout(1, Grid(5, 8)))
    for b in range(2):
        assert set(cleaned[b, mask[b], 0].tolist()) <= set(patches[b, ~mask[b], 0].tolist())


def test_shuffle_draws_every_unmarked_patch_equally_often():
    layout = Layout(1, Grid(60, 70))
    patches = torch.arange(4200.0).view(1, -1, 1)
    mask = torch.arange(4200)[None] >= 4
    taken = Shuffle(seed=1)(patches, mask, layout)[mask].flatten().long().bincount(minlength=4)
    assert len(taken) == 4
    assert (taken - 1049).abs().max() < 5 * (1049 * 0.75) ** 0.5  # five standard deviations


def test_shuffle_is_the_same_at_any_place_of_a_batch_and_another_with_another_seed():
    layout = Layout(1, Grid(5, 8))
    patches = torch.randn(3, 40, 2, generator=torch.Generator().manual_seed(4))
    mask = torch.rand(3, 40, generator=torch.Generator().manual_seed(5)) < 0.5
    order = [2, 0, 1]
    cleaned = Shuffle()(patches, mask, layout)
    assert torch.equal(Shuffle()(patches[order], mask[order], layout), cleaned[order])
    assert not torch.equal(Shuffle(seed=1)(patches, mask, layout), cleaned)
