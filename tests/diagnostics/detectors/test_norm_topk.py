"""A fixed number of patches of largest norm is marked in each image."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording


def mask_of(norms, count):
    tokens = torch.tensor(norms)[..., None]
    layout = Layout(0, Grid(1, tokens.shape[1]))
    return NormTopK(count=count)(Recording(1, {("block_out", 1): tokens}), layout).mask.tolist()


def test_the_largest_norms_of_each_image_are_marked():
    norms = [[1.0, -5.0, 4.0, 2.0], [9.0, 1.0, 1.0, 1.0]]
    # Of equal norms the first are taken.
    assert mask_of(norms, 2) == [[False, True, True, False], [True, True, False, False]]


def test_all_patches_are_marked_where_there_are_fewer_than_the_quota():
    assert mask_of([[1.0, 2.0, 3.0]], 10) == [[True, True, True]]


def test_a_quota_of_nan_patches_is_filled_with_numbers():
    assert mask_of([[torch.nan, 2.0, 3.0, 1.0]], 2) == [[False, True, True, False]]
    assert mask_of([[torch.nan, torch.nan, 3.0]], 2) == [[False, False, True]]


def test_a_quota_below_one_is_refused():
    with pytest.raises(ValueError, match="`count` should be at least 1"):
        NormTopK(count=0)
