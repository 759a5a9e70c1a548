"""Relative position bias of timm models for any grid: their tables, stretched as timm stretches them, and looked up."""

from __future__ import annotations

import warnings
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from timm import layers
from timm.models import beit
from torch import Tensor

from diagnostics.backbones.timm_reasons import refuse
from diagnostics.layout import Grid, Layout

# Grids whose stretched tables are kept; stretching takes longer than a small forward pass. Our choice.
KEPT_GRIDS = 4
# Kinds that hold a table by displacement, and the kind that makes one from the displacement by a small network.
TABLES = (beit.Attention, beit.RelativePositionBias, layers.RelPosBias)
NETWORK = layers.RelPosMlp


def bias_sources(trunk: Any, name: str) -> list[list[Any]]:
    """What each block's bias is summed from; empty lists for a model without."""
    shared = getattr(trunk, "rel_pos_bias", None)
    alone = getattr(trunk, "shared_rel_pos", None)
    sources = []
    for block in trunk.blocks:
        attn = getattr(block, "attn", None)
        has_table = getattr(attn, "relative_position_bias_table", None) is not None
        within = attn if has_table else getattr(attn, "rel_pos", None)
        # One for all blocks stands beside that of the block in BEiT, and in its place in the relative position ViTs.
        parts = [within, shared] if shared is not None else [alone if within is None else within]
        sources.append([part for part in parts if part is not None])
    for part in (part for parts in sources for part in parts):
        if type(part) not in (*TABLES, NETWORK):
            raise refuse(name, "relative position bias", part)
    return sources


class BiasTables:
    """Tables of a model's biases by displacement, for any grid; those of the last few grids are kept."""

    def __init__(self, sources: list[list[Any]]) -> None:
        self.sources = sources
        self._kept: dict[tuple[Any, ...], dict[int, Tensor]] = {}

    def bias(self, block: int, layout: Layout, index: Tensor) -> Tensor:
        """What a block (from 0) adds to its logits: (1, H, T, T). `index` is `displacements` of the layout."""
        tables = self._tables(layout.grid)
        table = sum(tables[id(part)] for part in self.sources[block][1:]) + tables[id(self.sources[block][0])]
        return table.T.index_select(1, index.flatten()).unflatten(1, index.shape)[None]

    def _tables(self, grid: Grid) -> dict[int, Tensor]:
        parts = [part for block in self.sources for part in block]
        parameter = next(parts[0].parameters())
        key = (grid, parameter.device, parameter.dtype)
        if key not in self._kept:
            while len(self._kept) >= KEPT_GRIDS:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = {id(part): table_of(part, grid) for part in {id(part): part for part in parts}.values()}
        return self._kept[key]


@torch.no_grad()
def table_of(part: Any, grid: Grid) -> Tensor:
    """A bias by displacement: ((2·rows - 1)·(2·cols - 1) [+ 3], H)."""
    if type(part) is NETWORK:
        if tuple(part.window_size) != tuple(grid):
            part = deepcopy(part)
            part.set_window_size(tuple(grid))
        values = part.bias_act(part.mlp(part.rel_coords_log)).flatten(0, -2)
        values = values if part.bias_gain is None else part.bias_gain * values
        # No displacement leads from or to the class token: its three rows are 0.
        return torch.cat([values, values.new_zeros(3, values.shape[-1])])
    table = part.relative_position_bias_table
    if tuple(part.window_size) == tuple(grid):
        return table.detach()
    extra = len(table) - (2 * part.window_size[0] - 1) * (2 * part.window_size[1] - 1)
    rows = (2 * grid.rows - 1) * (2 * grid.cols - 1) + extra
    with warnings.catch_warnings():  # timm's interpolation indexes in ways that torch warns of
        warnings.simplefilter("ignore")
        stretched: Tensor = layers.resize_rel_pos_bias_table(
            table, (grid.rows, grid.cols), (rows, table.shape[1]), old_window_size=tuple(part.window_size)
        )
    return stretched


def displacements(layout: Layout, device: torch.device) -> Tensor:
    """Which row of a table stands for each query and key: (T, T) int64.

    Patches count by rows and columns between them. The class token has three rows of its own behind: as query, as key,
    and with itself. Source: Bao et al., BEiT, arXiv:2106.08254, released code.
    """
    (rows, cols), prefix = layout.grid, layout.prefix
    row = torch.arange(rows, device=device).repeat_interleave(cols)
    col = torch.arange(cols, device=device).repeat(rows)
    index = (row[:, None] - row + rows - 1) * (2 * cols - 1) + (col[:, None] - col + cols - 1)
    if not prefix:
        return index
    count = (2 * rows - 1) * (2 * cols - 1)
    index = F.pad(index, (prefix, 0, prefix, 0))
    index[:prefix], index[:, :prefix], index[:prefix, :prefix] = count, count + 1, count + 2
    return index
