"""Position tables stretch to other grids by named rules; prefix rows and the native grid stay as they are."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diagnostics.backbones.positions import POSITIONS, interpolate_positions
from diagnostics.layout import Grid

NATIVE = Grid(4, 4)


@pytest.fixture
def table():
    return torch.randn(1 + NATIVE.patches, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("how", POSITIONS)
@pytest.mark.parametrize("grid", [Grid(6, 6), Grid(3, 7), Grid(2, 8), Grid(1, 1), Grid(14, 21)])
def test_every_rule_gives_a_row_per_patch_and_keeps_the_prefix(table, how, grid):
    stretched = interpolate_positions(table, NATIVE, grid, how=how, prefix=1)
    assert stretched.shape == (1 + grid.patches, 6)
    assert torch.equal(stretched[0], table[0])
    assert torch.isfinite(stretched).all()


@pytest.mark.parametrize("how", POSITIONS)
def test_the_native_grid_gives_the_table_itself(table, how):
    assert interpolate_positions(table, NATIVE, NATIVE, how=how, prefix=1) is table


@pytest.mark.parametrize("how", POSITIONS)
def test_rows_and_columns_are_not_swapped(how):
    table = torch.arange(4.0).repeat_interleave(4)[:, None]  # the value is the row
    stretched = interpolate_positions(table, NATIVE, Grid(8, 3), how=how).reshape(8, 3)
    assert torch.allclose(stretched[:, 0], stretched[:, 2], atol=1e-5)
    assert (stretched[1:, 1] >= stretched[:-1, 1] - 1e-5).all()


def test_the_offset_rule_shifts_the_sampling_points_as_dino_does(table):
    grid = Grid(6, 5)
    maps = table[1:].reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
    expected = F.interpolate(maps, scale_factor=((6 + 0.1) / 4, (5 + 0.1) / 4), mode="bicubic")
    got = interpolate_positions(table, NATIVE, grid, how="bicubic-offset", prefix=1)[1:]
    assert torch.equal(got, expected[0].permute(1, 2, 0).reshape(30, 6))
    plain = interpolate_positions(table, NATIVE, grid, how="bicubic", prefix=1)[1:]
    assert (got - plain).abs().max() > 1e-3


def test_a_table_of_another_size_is_refused(table):
    with pytest.raises(ValueError, match="1 \\+ 5x5"):
        interpolate_positions(table, Grid(5, 5), Grid(6, 6), how="bicubic", prefix=1)


def test_half_precision_tables_keep_their_type(table):
    stretched = interpolate_positions(table.bfloat16(), NATIVE, Grid(5, 5), how="bicubic", prefix=1)
    assert stretched.dtype == torch.bfloat16
