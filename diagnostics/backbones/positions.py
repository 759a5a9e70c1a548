"""Positional embeddings for other image sizes: how the learned grid is interpolated, by name."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones import POSITIONS
from diagnostics.layout import Grid

# Added to the target size before dividing, so that rounding never loses a row. Source: DINO's released code; SCLIP,
# ClearCLIP, SC-CLIP and SFP copy it (released code). It shifts the sampling points slightly.
DINO_OFFSET = 0.1


def bicubic_antialiased(table: Tensor, grid: Grid) -> Tensor:
    """Bicubic with antialiasing, pixel centers aligned: what open_clip's and timm's own loaders do, and GEM."""
    return F.interpolate(table, size=tuple(grid), mode="bicubic", align_corners=False, antialias=True)


def bicubic(table: Tensor, grid: Grid) -> Tensor:
    """Bicubic without antialiasing, pixel centers aligned."""
    return F.interpolate(table, size=tuple(grid), mode="bicubic", align_corners=False)


def bicubic_offset(table: Tensor, grid: Grid) -> Tensor:
    """Bicubic by the scale factor (size + 0.1)/√N: DINO's idiom, used by SCLIP, NACLIP, ClearCLIP, SC-CLIP, SFP."""
    scale = ((grid.rows + DINO_OFFSET) / table.shape[-2], (grid.cols + DINO_OFFSET) / table.shape[-1])
    # recompute_scale_factor=False lets the offset act on the sampling points, not only on the size (as NACLIP).
    return F.interpolate(table, scale_factor=scale, mode="bicubic", align_corners=False, recompute_scale_factor=False)


def bilinear(table: Tensor, grid: Grid) -> Tensor:
    """Bilinear without antialiasing: CLIP Surgery."""
    return F.interpolate(table, size=tuple(grid), mode="bilinear", align_corners=False)


def bilinear_antialiased(table: Tensor, grid: Grid) -> Tensor:
    """Bilinear with antialiasing."""
    return F.interpolate(table, size=tuple(grid), mode="bilinear", align_corners=False, antialias=True)


def bicubic_antialiased_square(table: Tensor, grid: Grid) -> Tensor:
    """Bicubic with antialiasing to a square of the longer side, cut to the grid: NaFlex that keeps the aspect."""
    return bicubic_antialiased(table, _square(grid))[..., : grid.rows, : grid.cols]


def bilinear_square(table: Tensor, grid: Grid) -> Tensor:
    """Bilinear to a square of the longer side, cut to the grid: NaFlex with factorized positions, C-RADIOv4."""
    return bilinear(table, _square(grid))[..., : grid.rows, : grid.cols]


def bilinear_corners_square(table: Tensor, grid: Grid) -> Tensor:
    """Bilinear with corners aligned, to a square of the longer side, cut to the grid: C-RADIOv3."""
    square = F.interpolate(table, size=tuple(_square(grid)), mode="bilinear", align_corners=True)
    return square[..., : grid.rows, : grid.cols]


def _square(grid: Grid) -> Grid:
    return Grid(max(grid), max(grid))


def interpolate_positions(table: Tensor, native: Grid, grid: Grid, *, how: str, prefix: int = 0) -> Tensor:
    """Position table for another grid: (prefix + native.patches, D) -> (prefix + grid.patches, D).

    Rows of prefix tokens are kept. The native grid returns the table itself. A grid with the same number of patches
    in another shape is interpolated too.
    Deviation: the released codes of the SCLIP line test the token count only; such a grid gets wrong positions there.
    """
    if table.shape[0] != prefix + native.patches:
        raise ValueError(
            f"`table` should have {prefix} + {native.rows}x{native.cols} rows; got {tuple(table.shape)}. "
            "The weights and the architecture disagree on the image size."
        )
    if grid == native:
        return table
    # fp32: bicubic weights in half precision are coarse, and not every device has them.
    maps = table[prefix:].float().unflatten(0, tuple(native)).permute(2, 0, 1)[None]
    patches = POSITIONS[how](maps, grid)[0].permute(1, 2, 0).flatten(0, 1)
    if patches.shape[0] != grid.patches:
        raise ValueError(
            f"position interpolation `{how}` gave {patches.shape[0]} positions for {grid.rows}x{grid.cols} patches; "
            "choose another, for example `bicubic-antialiased`."
        )
    return torch.cat([table[:prefix], patches.to(table.dtype)])
