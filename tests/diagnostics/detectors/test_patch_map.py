"""The patch-patch map, heads averaged, equals that of the whole matrix."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.patch_map import patch_map
from diagnostics.layout import Grid, Layout


@pytest.mark.parametrize("layout", [Layout(1, Grid(3, 4)), Layout(0, Grid(2, 5)), Layout(5, Grid(4, 2))], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_map_is_a_part_of_the_mean_over_heads(layout, dtype):
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, 3, layout.tokens, 6, generator=generator).to(dtype) for _ in range(2))
    whole = (q.double() @ k.double().mT / 6**0.5).softmax(dim=-1).mean(dim=1)
    expected = whole[:, layout.prefix :, layout.prefix :].float()
    torch.testing.assert_close(patch_map(q, k, layout), expected, rtol=1e-5, atol=1e-6)
