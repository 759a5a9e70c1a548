"""The absolute norm is the L2 norm, and its line is strict."""

from __future__ import annotations

import torch

from diagnostics.detectors.norm import AbsoluteNorm
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording


def test_the_score_is_the_norm_of_each_patch_and_the_line_itself_is_not_marked():
    tokens = torch.tensor([[[900.0, 0.0], [3.0, 4.0], [18.0, 24.0], [30.0, 1.0]]])
    scores, mask = AbsoluteNorm()(Recording(1, {("block_out", 1): tokens}), Layout(1, Grid(1, 3)))
    torch.testing.assert_close(scores, torch.tensor([[5.0, 30.0, 901**0.5]]))
    assert mask.tolist() == [[False, False, True]]
    assert AbsoluteNorm().at(4).mark(scores).tolist() == [[True, True, True]]
