"""Norms are taken relative to the median of the image's own patches."""

from __future__ import annotations

import torch

from diagnostics.detectors.relative_norm import RelativeNorm
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording


def detected(norms, prefix=0):
    return RelativeNorm()(Recording(1, {("block_out", 1): torch.tensor(norms)[..., None]}), Layout(prefix, Grid(1, 4)))


def test_the_median_is_the_mean_of_the_middle_norms_of_the_same_image_without_its_prefix():
    scores, mask = detected([[100.0, 1.0, 3.0, 2.0, 10.0], [0.0, 40.0, 20.0, 20.0, 120.0]], prefix=1)
    torch.testing.assert_close(scores, torch.tensor([[0.4, 1.2, 0.8, 4.0], [4 / 3, 2 / 3, 2 / 3, 4.0]]))
    assert mask.tolist() == [[False, False, False, True]] * 2


def test_a_image_of_mostly_zero_patches_scores_finitely():
    scores, mask = detected([[0.0, 0.0, 0.0, 10.0]])
    assert scores.isfinite().all()
    assert mask.tolist() == [[False, False, False, True]]
    assert not detected([[0.0] * 4]).mask.any()
