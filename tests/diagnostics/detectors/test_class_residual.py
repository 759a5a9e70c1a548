"""How far the class token's row exceeds each column of the correlation map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diagnostics.detectors.class_residual import ClassResidual
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording

STREAMS = ("query", "key", "value")


@pytest.mark.parametrize("layout", [Layout(1, Grid(3, 4)), Layout(5, Grid(2, 3)), Layout(2, Grid(4, 2), 1)], ids=str)
def test_scores_equal_those_of_the_matrix_written_out(layout):
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.randn(2, 3, layout.tokens, 6, generator=generator) for name in STREAMS}
    scores = ClassResidual().score(Recording(1, {(name, 1): value for name, value in values.items()}), layout)
    for image in range(2):
        matrix = torch.zeros(layout.tokens, layout.tokens)
        for name in STREAMS:
            for head in values[name][image]:
                matrix += F.cosine_similarity(head[:, None], head[None], dim=-1) / 9
        for patch in range(layout.count):
            column = matrix[:, layout.prefix + patch]
            expected = column[layout.class_index] - column[layout.prefix :].mean()
            assert scores[image, patch].item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_patch_like_the_class_token_among_unlike_ones_stands_out():
    layout = Layout(1, Grid(1, 4))
    vectors = torch.tensor([[1.0, 0], [0, 1], [0, 1], [2, 0], [0, 1]])[None, None]
    recording = Recording(1, {(name, 1): vectors for name in STREAMS})
    scores, mask = ClassResidual()(recording, layout)
    torch.testing.assert_close(scores, torch.tensor([[-0.75, -0.75, 0.75, -0.75]]))
    assert mask.tolist() == [[False, False, True, False]]
