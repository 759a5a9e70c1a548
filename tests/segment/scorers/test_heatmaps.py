"""Feature surgery by hand-worked numbers and against the definition channel by channel."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from diagnostics.layout import Grid, Layout, Padding
from segment.scorers.heatmaps import feature_surgery, heat_maps, single_word_surgery


def test_two_classes_worked_out_by_hand():
    # Two patches in two channels, two words along the axes; the class token has cosines 0.6 and 0.8 with them.
    patches = torch.tensor([[[3.0, 4.0], [2.0, 0.0]]])
    maps = feature_surgery(patches, torch.tensor([[0.6, 0.8]]), torch.eye(2), Layout(1, Grid(1, 2)))
    first = 2 / (1 + math.exp(0.4))  # weight of class 1, that of class 2 is 2 minus it
    expected = [
        [(0.6 * first - 0.8 * (2 - first)) / 2, first / 2],
        [(0.8 * (2 - first) - 0.6 * first) / 2, -first / 2],
    ]
    assert maps.shape == (1, 2, 1, 2)
    torch.testing.assert_close(maps[0, :, 0], torch.tensor(expected))


def test_it_is_the_definition_channel_by_channel():
    generator = torch.Generator().manual_seed(0)
    layout = Layout(1, Grid(2, 3))
    patches = torch.randn(2, 6, 5, generator=generator)
    token, text = torch.randn(2, 5, generator=generator), 3 * torch.randn(4, 5, generator=generator)
    maps = feature_surgery(patches, token, text, layout)
    words = F.normalize(text, dim=-1)
    for b in range(2):
        weights = (2 * F.normalize(token[b], dim=0) @ words.T).softmax(dim=0)
        weights = weights / weights.mean()
        for n in range(6):
            patch = F.normalize(patches[b, n], dim=0)
            products = torch.stack([patch * words[c] * weights[c] for c in range(4)])
            products = products - products.mean(dim=0)
            torch.testing.assert_close(maps[b, :, n // 3, n % 3], products.sum(dim=1))


def test_a_channel_that_all_words_share_falls_away():
    generator = torch.Generator().manual_seed(1)
    layout = Layout(0, Grid(1, 4), None)
    patches = torch.randn(1, 4, 3, generator=generator)
    words = torch.tensor([[1.0, 0.0, 5.0], [0.0, 1.0, 5.0]])
    token = torch.tensor([[1.0, 1.0, 0.0]])  # as near to the one as to the other
    louder = patches.clone()
    louder[..., 2] = -patches[..., 2]
    torch.testing.assert_close(
        feature_surgery(louder, token, words, layout), feature_surgery(patches, token, words, layout)
    )


def test_one_class_alone_and_unlike_spaces_are_refused():
    layout = Layout(1, Grid(1, 2))
    with pytest.raises(ValueError, match=r"at least 2 classes; got \(1, 3\). Add words"):
        feature_surgery(torch.ones(1, 2, 3), torch.ones(1, 3), torch.ones(1, 3), layout)
    with pytest.raises(ValueError, match=r"should fit; got \(1, 2, 3\), \(1, 3\) and \(2, 4\)"):
        feature_surgery(torch.ones(1, 2, 3), torch.ones(1, 3), torch.ones(2, 4), layout)


def test_each_map_runs_from_zero_to_one_and_a_flat_one_is_zero():
    maps = torch.tensor([[[[-3.0, 1.0]], [[2.0, 2.0]]], [[[0.0, 10.0]], [[5.0, 4.0]]]])
    heat = heat_maps(maps, (1, 2))
    assert torch.equal(heat, torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]], [[[0.0, 1.0]], [[1.0, 0.0]]]]))


def test_stretching_is_bilinear_and_comes_after_the_scaling():
    maps = heat_maps(torch.tensor([[[[1.0, 3.0]]]]), (2, 4))
    torch.testing.assert_close(maps[0, 0], torch.tensor([[0.0, 0.25, 0.75, 1.0]] * 2))


def test_padding_is_cut_off():
    maps = torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    whole = heat_maps(maps, (32, 48))
    assert torch.equal(heat_maps(maps, (30, 45), padding=Padding(1, 1, 1, 2)), whole[..., 1:31, 1:46])


def test_a_single_word_loses_what_an_empty_sentence_says():
    # Words along the axes, the empty sentence in between: (1, 0) - (1, 1)/√2 and (0, 1) - (1, 1)/√2.
    patches = torch.tensor([[[3.0, 4.0], [2.0, 0.0]]])
    maps = single_word_surgery(patches, 2 * torch.eye(2), torch.tensor([5.0, 5.0]), Layout(1, Grid(2, 1)))
    half = math.sqrt(0.5)
    assert maps.shape == (1, 2, 2, 1)
    torch.testing.assert_close(maps[0, 0, :, 0], torch.tensor([0.6 - 1.4 * half, 1 - half]))
    torch.testing.assert_close(maps[0, 1, :, 0], torch.tensor([0.8 - 1.4 * half, -half]))
    with pytest.raises(ValueError, match="`empty`"):
        single_word_surgery(patches, torch.eye(2), torch.ones(1, 2), Layout(1, Grid(2, 1)))
