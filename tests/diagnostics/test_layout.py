"""Tokens fold into maps and back, prefix tokens stay out, and padding is even."""

from __future__ import annotations

import pytest
import torch

from diagnostics.layout import Grid, Layout, Padding, grid_of, pad_to_patches, padding_to_patches


@pytest.mark.parametrize("prefix, class_index", [(0, None), (1, 0), (5, 0), (4, None)])
def test_patches_fold_into_a_map_and_back(prefix, class_index):
    layout = Layout(prefix, Grid(2, 3), class_index)
    tokens = torch.arange(2 * layout.tokens * 4.0).reshape(2, layout.tokens, 4)
    patches = layout.patches(tokens)
    maps = layout.to_map(patches)
    assert maps.shape == (2, 2, 3, 4)
    assert torch.equal(layout.to_patches(maps), patches)
    assert torch.equal(maps[:, 1, 0], tokens[:, prefix + 3])


def test_the_class_token_is_found_among_the_prefix_tokens():
    tokens = torch.arange(7.0)[None, :, None]
    assert Layout(3, Grid(2, 2), 0).class_token(tokens).item() == 0
    assert Layout(3, Grid(2, 2), 2).class_token(tokens).item() == 2


def test_a_model_without_prefix_tokens_has_no_class_token():
    layout = Layout(0, Grid(2, 2))
    assert layout.class_index is None
    with pytest.raises(ValueError, match="no class token"):
        layout.class_token(torch.zeros(1, 4, 2))


def test_other_dimensions_can_be_folded_too():
    layout = Layout(1, Grid(2, 3))
    rows = torch.rand(2, 4, 7, 7)
    patches = layout.patches(rows, dim=3)
    assert layout.to_map(patches, dim=3).shape == (2, 4, 7, 2, 3)


@pytest.mark.parametrize("call", ["patches", "to_map", "to_patches"])
def test_a_wrong_number_of_tokens_is_refused_with_what_was_expected(call):
    layout = Layout(1, Grid(2, 3))
    with pytest.raises(ValueError, match=r"2x3|2 rows|N=6"):
        getattr(layout, call)(torch.zeros(1, 9, 9))


def test_a_class_token_outside_the_prefix_is_refused():
    with pytest.raises(ValueError, match="class_index"):
        Layout(2, Grid(1, 1), 2)


def test_padding_is_split_evenly_and_the_odd_pixel_goes_last():
    assert padding_to_patches((224, 224), (16, 16)) == Padding(0, 0, 0, 0)
    assert padding_to_patches((30, 33), (16, 16)) == Padding(1, 1, 7, 8)


def test_padded_images_have_whole_patches_and_keep_their_pixels():
    image = torch.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    padded = pad_to_patches(image, (4, 4))
    assert padded.shape == (1, 1, 4, 4)
    assert torch.equal(padded[0, 0, 1:3, 0:3], image[0, 0])
    assert padded.sum() == image.sum()
    assert grid_of((2, 3), (4, 4)) == Grid(1, 1)


def test_a_whole_number_of_patches_is_not_copied():
    image = torch.zeros(1, 3, 32, 48)
    assert pad_to_patches(image, (16, 16)) is image
    assert grid_of((32, 48), (16, 16)) == (2, 3)


def test_a_image_without_pixels_is_refused():
    with pytest.raises(ValueError, match="at least 1x1"):
        grid_of((0, 5), (16, 16))


@pytest.mark.parametrize("prefix, class_index", [(0, None), (1, 0), (5, 0), (4, None), (3, 2)])
def test_patches_are_exchanged_and_the_prefix_is_kept_out_of_place(prefix, class_index):
    layout = Layout(prefix, Grid(2, 3), class_index)
    tokens = torch.rand(2, layout.tokens, 4)
    before, patches = tokens.clone(), torch.rand(2, 6, 4)
    exchanged = layout.with_patches(tokens, patches)
    for image in range(2):
        for place in range(layout.tokens):
            expected = tokens[image, place] if place < prefix else patches[image, place - prefix]
            assert torch.equal(exchanged[image, place], expected)
    exchanged.zero_()
    assert torch.equal(tokens, before)
    assert torch.equal(layout.prefix_tokens(tokens), tokens[:, :prefix])
    assert layout.prefix_tokens(tokens.mT, dim=2).shape == (2, 4, prefix)


def test_patches_of_another_grid_are_not_put_among_tokens():
    layout = Layout(1, Grid(2, 3))
    with pytest.raises(ValueError, match=r"N=6 .*\(1, 7, 4\) and \(1, 5, 4\)"):
        layout.with_patches(torch.zeros(1, 7, 4), torch.zeros(1, 5, 4))
    with pytest.raises(ValueError, match="T=7"):
        layout.with_patches(torch.zeros(1, 6, 4), torch.zeros(1, 6, 4))


def test_a_class_token_is_none_where_the_model_has_none():
    tokens = torch.arange(6.0)[None, :, None]
    with_class, without = Layout(2, Grid(2, 2), 1), Layout(2, Grid(2, 2), None)
    assert (with_class.has_class_token, without.has_class_token) == (True, False)
    assert with_class.class_token_or_none(tokens).item() == 1
    assert with_class.class_token_or_none(tokens.mT, dim=2).item() == 1
    assert without.class_token_or_none(tokens) is None
