"""Patch similarity against hand-worked angles."""

from __future__ import annotations

import math

import pytest
import torch

from diagnostics.layout import Grid, Layout
from diagnostics.measures.base import Measure
from diagnostics.measures.similarity import PatchSimilarity, cosine_affinity


def test_similarity_is_the_cosine_of_the_angle_whatever_the_length():
    patches = torch.tensor([[[2.0, 0.0], [3.0, 3.0], [0.0, 7.0], [-1.0, 0.0]]])
    half = math.sqrt(0.5)
    expected = [[1, half, 0, -1], [half, 1, half, -half], [0, half, 1, 0], [-1, -half, 0, 1]]
    assert torch.allclose(cosine_affinity(patches)[0], torch.tensor(expected), atol=1e-6)


def test_a_zero_patch_is_similar_to_none():
    patches = torch.tensor([[[0.0, 0.0], [1.0, 2.0]]])
    assert torch.allclose(cosine_affinity(patches), torch.tensor([[[0.0, 0.0], [0.0, 1.0]]]))


def test_maps_are_rows_of_the_affinity_of_the_patches_asked_for(view_of):
    layout = Layout(2, Grid(3, 4))
    tokens = torch.randn(2, 14, 6, generator=torch.Generator().manual_seed(0))
    view = view_of(layout, block_out=tokens)
    part = PatchSimilarity(patches=(7, 0))
    measured = part.measure(view)["patch_similarity"]
    assert measured.shape == (2, 2, 3, 4)
    affinity = cosine_affinity(tokens[:, 2:])
    assert torch.allclose(measured.flatten(2), affinity[:, [7, 0]], atol=1e-6)
    assert measured[0, 0, 1, 3].item() == pytest.approx(1)  # patch 7 is row 1, column 3
    assert part.coordinates(layout)["query"].tolist() == [7, 0]


def test_the_center_patch_is_the_query_by_default(view_of):
    layout = Layout(1, Grid(3, 5))
    view = view_of(layout, block_out=torch.randn(1, 16, 4, generator=torch.Generator().manual_seed(0)))
    assert PatchSimilarity().measure(view)["patch_similarity"][0, 0, 1, 2].item() == pytest.approx(1)
    assert PatchSimilarity().coordinates(layout)["query"].tolist() == [7]


def test_another_place_can_be_compared(view_of):
    tokens = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    part = PatchSimilarity(tap="attn_out")
    assert isinstance(part, Measure)
    assert part.needs == ("attn_out",)
    measured = part.measure(view_of(Layout(1, Grid(2, 2)), attn_out=tokens))["patch_similarity"]
    assert torch.allclose(measured.flatten(2), cosine_affinity(tokens[:, 1:])[:, [3]], atol=1e-6)


@pytest.mark.parametrize("patch", [-1, 6])
def test_a_patch_outside_the_grid_is_refused_with_the_grid_named(patch):
    unsupported_reason = PatchSimilarity(patches=(0, patch)).unsupported_reason(Layout(1, Grid(2, 3)), labeled=False)
    assert "2x3" in unsupported_reason
    assert str(patch) in unsupported_reason
    assert PatchSimilarity(patches=(0, 5)).unsupported_reason(Layout(1, Grid(2, 3)), labeled=False) is None
