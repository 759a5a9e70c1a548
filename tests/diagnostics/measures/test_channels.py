"""Channel measures against hand-worked values, plain loops and planted outliers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import xarray as xr

from diagnostics.layout import Grid, Layout
from diagnostics.measures.channels import (
    ChannelKurtosis,
    ChannelMean,
    ChannelPeak,
    MassiveCount,
    TopChannels,
    channel_kurtosis,
    channel_means,
    channel_peaks,
    massive_activations,
    sorted_channel_means,
)

SMALL = torch.tensor([[[1.0, -2.0, 0.0], [3.0, -6.0, 0.0]]])  # one image, two tokens, three channels


def tokens_of(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_peaks_are_magnitudes():
    assert channel_peaks(SMALL).tolist() == [[3.0, 6.0, 0.0]]


def test_means_are_relative_to_the_largest_or_the_sum_or_to_nothing():
    assert channel_means(SMALL, normalize="none").tolist() == [[2.0, -4.0, 0.0]]
    assert channel_means(SMALL).tolist() == [[0.5, -1.0, 0.0]]
    assert channel_means(SMALL, normalize="sum").tolist() == [[pytest.approx(1 / 3), pytest.approx(-2 / 3), 0.0]]


def test_sorted_means_average_the_images_first_and_ascend():
    values = np.array([[[0.5, -1.0, 0.0]], [[0.1, 1.0, 0.4]]], dtype=np.float32)
    means = xr.DataArray(values, dims=("image", "layer", "channel"), coords={"layer": [3]}, attrs={"units": "1"})
    ordered = sorted_channel_means(means)
    assert ordered.dims == ("layer", "place")
    assert ordered.values.tolist() == [pytest.approx([0.0, 0.2, 0.3])]
    assert ordered.attrs["units"] == "1"
    assert means.values.tolist() == values.tolist()
    assert sorted_channel_means(means[1]).values.tolist() == [pytest.approx([0.1, 0.4, 1.0])]
    with pytest.raises(ValueError, match="channel"):
        sorted_channel_means(means.rename(channel="token"))


def test_kurtosis_is_1_for_equal_channels_and_the_width_for_a_single_one():
    single = torch.zeros(1, 4, 8)
    single[..., 5] = 600.0
    equal = torch.tensor([3.0, -3.0]).repeat(4)[None, None].expand(1, 4, 8)
    assert channel_kurtosis(torch.cat([equal, single])).tolist() == [pytest.approx(1), pytest.approx(8)]


def test_kurtosis_equals_a_plain_loop_and_knows_no_scale():
    tokens = tokens_of(1, 6, 5)
    power = [sum(tokens[0, t, j].item() ** 2 for t in range(6)) / 6 for j in range(5)]
    expected = (sum(value**2 for value in power) / 5) / (sum(power) / 5) ** 2
    assert channel_kurtosis(tokens).item() == pytest.approx(expected, rel=1e-5)
    assert channel_kurtosis(1e12 * tokens).item() == pytest.approx(expected, rel=1e-5)


def planted(width=40):
    """Median |x| near 0.07; entries of 99, 101 and -600 planted in the first image."""
    tokens = 0.1 * tokens_of(2, 10, width)
    tokens[0, 2, 7], tokens[0, 2, 8], tokens[0, 9, 7] = 99.0, 101.0, -600.0
    return tokens


def test_massive_activations_are_the_planted_ones_above_100():
    marked = massive_activations(planted())
    assert marked.nonzero().tolist() == [[0, 2, 8], [0, 9, 7]]


def test_massive_activations_must_also_stand_above_a_thousand_medians():
    tokens = planted()
    tokens[0] *= 5  # median near 0.34: 495 and 505 exceed 100 and 1000 medians, and so does 3000
    assert massive_activations(tokens)[0].sum() == 3
    tokens[0, 3:7] = 10.0  # now the median is near 0.7, which 495 and 505 do not exceed 1000 times
    median = tokens[0].abs().flatten().sort().values[199].item()  # lower middle of 400
    expected = (tokens[0].abs() > max(100, 1000 * median)).nonzero().tolist()
    assert massive_activations(tokens)[0].nonzero().tolist() == expected
    assert expected == [[9, 7]]


def test_the_thresholds_of_massive_activations_are_settings():
    assert massive_activations(planted(), absolute=90).sum() == 3
    assert massive_activations(planted(), absolute=700).sum() == 0
    assert massive_activations(planted(), ratio=5000).nonzero().tolist() == [[0, 9, 7]]


@pytest.mark.parametrize("shift", [0.0, 0.04, 0.3, 0.5, 2.0])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 7)])
def test_massive_activations_are_those_of_the_definition(shift, shape):
    tokens = 0.1 * tokens_of(*shape).abs() + shift
    tokens[1:, 0, 0], tokens[2:, 1, 1], tokens[3:, 2, 2] = 450.0, -101.0, 99.0
    for image, marked in zip(tokens, massive_activations(tokens), strict=True):
        sizes = image.abs()
        assert torch.equal(marked, (sizes > 100) & (sizes > 1000 * sizes.median()))


def test_a_image_with_nan_has_no_count_of_massive_activations(view_of):
    tokens = planted()[[0, 1, 0]]
    tokens[0, 0, 0] = math.nan
    count = MassiveCount().measure(view_of(Layout(0, Grid(2, 5)), block_out=tokens))["massive_count"]
    assert count.tolist() == [-1, 0, 2]


def test_massive_activations_of_prefix_tokens_count_unless_left_out(view_of):
    tokens = planted()
    view = view_of(Layout(3, Grid(1, 7)), block_out=tokens)
    assert MassiveCount().measure(view)["massive_count"].tolist() == [2, 0]
    assert MassiveCount(tokens="patches").measure(view)["massive_count"].tolist() == [1, 0]


def test_top_channels_name_the_planted_ones_largest_first(view_of):
    tokens = tokens_of(2, 7, 12)
    tokens[0, 3, 9], tokens[0, 5, 2], tokens[1, 6, 4] = -80.0, 50.0, 30.0
    tokens[0, 0, 11] = 900.0  # class token: not a patch
    view = view_of(Layout(1, Grid(2, 3)), block_out=tokens)
    measured = TopChannels(k=2).measure(view)
    assert measured["top_channel"][0].tolist() == [9, 2]
    assert measured["top_channel"][1, 0] == 4
    assert measured["top_channel_value"][0].tolist() == [80.0, 50.0]
    assert TopChannels(k=2).coordinates(view.layout)["rank"].tolist() == [1, 2]
    peaks = ChannelPeak().measure(view)["channel_peak"]
    assert torch.equal(peaks, tokens[:, 1:].abs().amax(dim=1))


def test_an_even_number_of_entries_is_judged_by_its_lower_middle_one():
    tokens = torch.tensor([0.01, 0.01, 0.01, 5.0, 5.0, 450.0]).view(1, 2, 3)
    assert massive_activations(tokens).nonzero().tolist() == [[0, 1, 2]]


def test_thresholds_without_meaning_are_refused():
    with pytest.raises(ValueError, match="ratio"):
        MassiveCount(ratio=0)
    with pytest.raises(ValueError, match="absolute"):
        MassiveCount(absolute=-1)


def test_more_top_channels_than_channels_are_refused(view_of):
    with pytest.raises(ValueError, match="at most the 12 channels"):
        TopChannels(k=13).measure(view_of(Layout(1, Grid(2, 3)), block_out=tokens_of(1, 7, 12)))
    with pytest.raises(ValueError, match="at least 1"):
        TopChannels(k=0)


def test_channel_means_are_of_what_enters_the_block_over_the_tokens_asked_for(view_of):
    tokens = tokens_of(2, 7, 12)
    view = view_of(Layout(1, Grid(2, 3)), block_in=tokens, block_out=torch.zeros_like(tokens))
    whole = ChannelMean(normalize="none").measure(view)["channel_mean"]
    patches = ChannelMean(normalize="none", tokens="patches").measure(view)["channel_mean"]
    assert torch.allclose(whole, tokens.mean(dim=1))
    assert torch.allclose(patches, tokens[:, 1:].mean(dim=1))
    assert ChannelMean().measure(view)["channel_mean"].abs().amax(dim=1).tolist() == [1.0, 1.0]
    assert ChannelMean(normalize="none").variables[0].units == "model units"
    with pytest.raises(ValueError, match="normalize"):
        ChannelMean(normalize="l2")


def test_kurtosis_of_patches_leaves_the_prefix_out(view_of):
    tokens = torch.ones(1, 5, 6)
    tokens[0, 0, 0] = 1000.0
    view = view_of(Layout(1, Grid(2, 2)), block_out=tokens)
    assert ChannelKurtosis(tokens="patches").measure(view)["channel_kurtosis"].item() == pytest.approx(1)
    assert ChannelKurtosis().measure(view)["channel_kurtosis"].item() == pytest.approx(6, rel=1e-3)
