"""Rotary positions of timm models for any grid: the model's own tables, made anew for each forward pass."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from timm import layers
from torch import Tensor

from diagnostics.backbones.positional import Rotation
from diagnostics.backbones.timm_reasons import refuse
from diagnostics.layout import Grid

# Kinds whose `get_embed(shape=…)` gives the table of any grid, and those that may hold a table of one grid only.
ANY_GRID = (layers.RotaryEmbeddingMixed, layers.RotaryEmbeddingDinoV3, layers.RotaryEmbeddingMRope)
ONE_GRID = (layers.RotaryEmbeddingCat,)


def check_rotary(rope: Any, name: str) -> None:
    """Refuses rotary positions of a kind that is not known."""
    if type(rope) not in ANY_GRID + ONE_GRID:
        raise refuse(name, "rotary positions", rope)


def rotary_table(rope: Any, grid: Grid) -> Tensor:
    """Sine and cosine side by side for a grid: (N, 2d), or (L, H, N, 2d) where layers and heads have their own."""
    if type(rope) in ONE_GRID and rope.feat_shape is not None:
        # It keeps one grid's table and knows another only by being changed, so a copy is.
        rope = deepcopy(rope)
        rope.update_feat_shape(tuple(grid))
        return rope.get_embed()
    return rope.get_embed(shape=tuple(grid))


def rotations(rope: Any, grid: Grid, depth: int, *, half: bool) -> list[Rotation]:
    """The rotation of each of `depth` blocks on a grid; one for all, unless each has frequencies of its own."""
    table = rotary_table(rope, grid)
    if table.ndim == 2:
        return [_rotation(table, half)] * depth
    return [_rotation(each, half) for each in table]


def _rotation(table: Tensor, half: bool) -> Rotation:
    sin, cos = table.chunk(2, dim=-1)
    return Rotation(sin=sin, cos=cos, half=half)
