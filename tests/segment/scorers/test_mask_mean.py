"""Scores of masks against enlarging the features first and averaging pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.layout import Grid, Layout, Padding
from segment.decoding.mask_vote import mean_vote
from segment.decoding.masks.base import MaskSource
from segment.decoding.masks.left import LeftMasks
from segment.method import Cosine, Encoding, TextFeatures
from segment.scorers.mask_mean import MaskMean, region_means

SIZE = (12, 20)


@dataclass(frozen=True, kw_only=True)
class Given(MaskSource):
    """Regions at the window's size from the extras."""

    def __call__(self, encoding: Encoding, size: tuple[int, int]) -> Tensor:
        return encoding.extras["regions"]


@pytest.fixture
def encoding() -> Encoding:
    generator = torch.Generator().manual_seed(0)
    return Encoding(
        patches=torch.randn(2, 15, 8, generator=generator),
        class_token=None,
        layout=Layout(1, Grid(3, 5)),
        padding=Padding(0, 0, 0, 0),
        extras={
            "regions": torch.randint(-1, 4, (2, *SIZE), generator=generator),
            "masks": torch.randint(-1, 2, (2, 6, 10), generator=generator),
        },
    )


@pytest.fixture
def text() -> TextFeatures:
    features = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    return TextFeatures(
        features=F.normalize(features, dim=-1),
        owners=torch.tensor([0, 0, 1, 2]),
        names=("background", "cat", "dog"),
        background=0,
    )


def test_region_means_are_those_of_the_enlarged_features(encoding):
    regions = encoding.extras["regions"] + 1
    maps = encoding.layout.to_map(F.normalize(encoding.patches, dim=-1)).permute(0, 3, 1, 2)
    large = F.interpolate(maps, size=SIZE, mode="bilinear", align_corners=False)
    means = region_means(encoding, regions, 5)
    for image in range(2):
        for number in range(5):
            expected = large[image][:, regions[image] == number].mean(dim=1)
            torch.testing.assert_close(means[image, number], expected, atol=1e-6, rtol=0)


def test_a_region_without_pixels_has_a_mean_of_zeros(encoding):
    assert (region_means(encoding, torch.zeros(2, *SIZE, dtype=torch.int64), 2)[:, 1] == 0).all()


def test_without_renormalizing_the_scores_are_the_means_of_the_cosines_in_each_mask(encoding, text):
    regions = encoding.extras["regions"]
    cosines = F.interpolate(Cosine()(encoding, text, SIZE).maps, size=SIZE, mode="bilinear", align_corners=False)
    expected = mean_vote(cosines, torch.where(regions < 0, 4, regions))
    scores = MaskMean(masks=Given())(encoding, text, SIZE)
    assert not scores.by_class
    torch.testing.assert_close(scores.maps, expected, atol=1e-6, rtol=0)


def test_renormalizing_gives_cosines_of_the_mean_features(encoding, text):
    regions = encoding.extras["regions"]
    means = F.normalize(region_means(encoding, torch.where(regions < 0, 4, regions), 5), dim=-1)
    maps = MaskMean(masks=Given(), renormalize=True)(encoding, text, SIZE).maps
    row, col = (regions[1] == 2).nonzero()[0]
    torch.testing.assert_close(maps[1, :, row, col], text.features @ means[1, 2])


def test_the_remainder_can_be_left_no_label_but_the_backgrounds(encoding, text):
    free = MaskMean(masks=Given())(encoding, text, SIZE).maps
    bound = MaskMean(masks=Given(), background_only=True)(encoding, text, SIZE).maps
    rest = encoding.extras["regions"] == -1
    assert (bound[:, 2:].movedim(1, -1)[rest] == -1).all()
    assert torch.equal(bound[:, :2], free[:, :2])
    assert torch.equal(bound.movedim(1, -1)[~rest], free.movedim(1, -1)[~rest])


def test_without_a_background_class_all_labels_stay_in_the_remainder(encoding, text):
    plain = TextFeatures(features=text.features, owners=text.owners, names=text.names)
    free = MaskMean(masks=Given())(encoding, plain, SIZE).maps
    assert torch.equal(MaskMean(masks=Given(), background_only=True)(encoding, plain, SIZE).maps, free)


def test_masks_that_the_encoder_left_are_enlarged_by_the_nearest(encoding):
    regions = LeftMasks()(encoding, SIZE)
    assert torch.equal(regions, encoding.extras["masks"].repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_an_encoder_that_leaves_no_masks_is_reported_of(text):
    bare = Encoding(
        patches=torch.ones(1, 1, 8), class_token=None, layout=Layout(0, Grid(1, 1), None), padding=Padding(0, 0, 0, 0)
    )
    with pytest.raises(ValueError, match="`masks`"):
        MaskMean()(bare, text, (4, 4))
