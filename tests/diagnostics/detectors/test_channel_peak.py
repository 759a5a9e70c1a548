"""The share of an image's dominant channels in each patch, in multiples of the even share."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.channel_peak import ChannelPeak
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording

LAYOUT = Layout(1, Grid(1, 3))


def scores_of(tokens, layout=LAYOUT, **settings):
    return ChannelPeak(**settings).score(Recording(1, {("block_out", 1): tokens}), layout)


def test_shares_worked_out_by_hand_are_taken_of_magnitudes_in_the_dominant_channel():
    image = torch.tensor([[90.0, 0, 0, 0], [1.0, -7, 1, 1], [3.0, 1, -1, 1], [0.0, 0, 0, 0]])
    # Mean magnitudes over patches are 4/3, 8/3, 2/3, 2/3: channel 1 leads, and channel 0 is next.
    torch.testing.assert_close(scores_of(image[None], dominant=1), torch.tensor([[2.8, 2 / 3, 0.0]]))
    torch.testing.assert_close(scores_of(image[None], dominant=2), torch.tensor([[2.8, 2.0, 0.0]]))


def test_one_patch_leads_the_peak_profile_but_need_not_lead_the_mean():
    image = torch.ones(1, 31, 4)
    image[0, :, 0] = 2.0
    image[0, 5, 3] = 20.0
    layout = Layout(1, Grid(5, 6))
    assert scores_of(image, layout, dominant=1)[0, 4] < 1
    assert scores_of(image, layout, dominant=1, profile="peak")[0, 4] == 4 * 20 / 24


def test_each_image_has_dominant_channels_of_its_own():
    images = torch.ones(2, 4, 8)
    images[0, :, 2], images[1, :, 5] = 9.0, 17.0
    scores = scores_of(images, dominant=1)
    torch.testing.assert_close(scores, torch.tensor([[8 * 9 / 16.0] * 3, [8 * 17 / 24.0] * 3]))


def test_equals_a_slow_loop():
    tokens = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(3, 3)
    for image in range(3):
        patches = tokens[image, 1:].abs()
        order = sorted(range(10), key=lambda channel: -patches[:, channel].mean().item())
        for patch in range(3):
            peak = max(patches[patch, channel].item() for channel in order[:3])
            expected[image, patch] = peak / patches[patch].sum().item() * 10
    torch.testing.assert_close(scores_of(tokens), expected)


def test_more_dominant_channels_than_there_are_means_all_of_them():
    tokens = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(scores_of(tokens, dominant=5), scores_of(tokens, dominant=2))


@pytest.mark.parametrize("settings", [{"dominant": 0}, {"profile": "median"}])
def test_settings_without_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="should be"):
        ChannelPeak(**settings)
