"""The unmarked patches around each marked one: windows that end at the image's border, and rings that grow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from diagnostics.layout import Grid, Layout
from diagnostics.purifiers.checks import check_choice, check_inputs, computing_dtype

Isolated = Literal["keep", "zero", "grow"]

# (K, M, D) neighbors, (K, M) which of them count, (K, M, 2) their places as (rows, columns) away -> (K, D)
Interpolation = Callable[[Tensor, Tensor, Tensor], Tensor]

# Neighbors gathered at a time: 64 MB of fp32 at D = 1024, however many patches are marked.
GATHERED = 16384


def window(radius: int, *, device: torch.device | None = None) -> Tensor:
    """Places of the (2·radius + 1)² window as (rows, columns) away from its center, row by row: (M, 2)."""
    steps = torch.arange(-radius, radius + 1, device=device)
    return torch.cartesian_prod(steps, steps)


def ring(radius: int, *, device: torch.device | None = None) -> Tensor:
    """Places of the window's outermost ring, row by row: (8·radius, 2). Radius 1 is the 8 neighbors."""
    places = window(radius, device=device)
    return places[places.abs().amax(dim=1) == radius]


def around(numbers: Tensor, places: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Patches at `places` (M, 2) from the patches `numbers` (K): their numbers (K, M), and which are in the image.

    Those outside get number 0, so that all can be gathered.
    """
    rows = numbers[:, None] // grid.cols + places[:, 0]
    cols = numbers[:, None] % grid.cols + places[:, 1]
    inside = (rows >= 0) & (rows < grid.rows) & (cols >= 0) & (cols < grid.cols)
    return torch.where(inside, rows * grid.cols + cols, 0), inside


def average(neighbors: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of neighbors: (K, M, D), (K, M) -> (K, D). Every row of weights should have a positive one."""
    weights = weights.to(neighbors.dtype)
    return (neighbors * weights[..., None]).sum(dim=1) / weights.sum(dim=1, keepdim=True)


def check_isolated(isolated: str) -> None:
    """Raises unless `isolated` is `keep`, `zero` or `grow`."""
    check_choice("isolated", isolated, Isolated)


def fill_from_neighbors(
    patches: Tensor, mask: Tensor, layout: Layout, interpolate: Interpolation, *, isolated: Isolated
) -> Tensor:
    """Patches (B, N, D) with each marked one interpolated from its unmarked neighbors in the image.

    `interpolate` gets the neighbors that count, row by row, at least one; zeros fill up to the number of the richest.
    An isolated patch, all of whose neighbors are marked or outside, is kept, zeroed, or its window grows ring by ring
    until a ring holds an unmarked patch; rings inside that one hold none, so the ring is the window. Where every patch
    is marked, `grow` keeps.
    Values are computed in fp32 (fp64 for fp64) and given back in the dtype of `patches`.
    Source of the choices: SC-CLIP's release (github.com/SuleBai/SC-CLIP, 0417ba9) keeps, SFP's release
    (github.com/Kimsure/SFP, 2804f5b) zeroes; growing is ours.
    """
    check_inputs(patches, mask, layout)
    result = patches.clone()
    # No window of a fully marked image finds anything, so none of them starts to grow.
    sought = mask & ~mask.all(dim=1, keepdim=True) if isolated == "grow" else mask
    image, number = sought.nonzero(as_tuple=True)
    last = max(layout.grid) - 1 if isolated == "grow" else 1
    for radius in range(1, last + 1):
        if not len(number):
            break
        places = ring(radius, device=patches.device)
        alone = []
        for b, n in zip(*(marked.split(max(1, GATHERED // len(places))) for marked in (image, number)), strict=True):
            neighbor, inside = around(n, places, layout.grid)
            valid = inside & ~mask[b[:, None], neighbor]
            filled = valid.any(dim=1)
            alone.append(~filled)
            b, n, neighbor, valid = b[filled], n[filled], neighbor[filled], valid[filled]
            if not len(n):
                continue
            # Those that count come first and the rest is cut off: a wide ring holds few of them.
            most = int(valid.sum(dim=1).max())
            order = (~valid).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
            neighbor, valid = neighbor.gather(1, order), valid.gather(1, order)
            values = patches[b[:, None], neighbor].to(computing_dtype(patches.dtype))
            # Filled, not multiplied by 0: a marked neighbor may hold nan.
            values = values.masked_fill(~valid[..., None], 0)
            result[b, n] = interpolate(values, valid, places[order]).to(patches.dtype)
        rest = torch.cat(alone)
        image, number = image[rest], number[rest]
    if isolated == "zero":
        result[image, number] = 0
    return result
