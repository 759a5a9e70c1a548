"""Where the tokens of an image sit: prefix tokens, the grid of patches, and the padding to whole patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Grid(NamedTuple):
    """Rows and columns of patches, in that order."""

    rows: int
    cols: int

    @property
    def patches(self) -> int:
        """N, the number of patches."""
        return self.rows * self.cols


class Padding(NamedTuple):
    """Pixels added on each side so that an image becomes a whole number of patches."""

    top: int
    bottom: int
    left: int
    right: int


@dataclass(frozen=True)
class Layout:
    """How a token sequence folds into a map: `prefix` special tokens, then the patches row by row.

    `prefix` counts class token and registers together, 0 included. `class_index` is the class token's place among
    them, or None where the model has none. Nothing else in the project knows where special tokens sit.
    """

    prefix: int
    grid: Grid
    class_index: int | None = 0

    def __post_init__(self) -> None:
        if self.class_index is not None and not 0 <= self.class_index < max(self.prefix, 1):
            raise ValueError(
                f"`class_index` should lie among the {self.prefix} prefix tokens; got {self.class_index}. "
                "Give None for a model without a class token."
            )
        if self.prefix == 0 and self.class_index is not None:
            object.__setattr__(self, "class_index", None)

    @property
    def count(self) -> int:
        """N, the number of patches."""
        return self.grid.patches

    @property
    def tokens(self) -> int:
        """T, the number of tokens: prefix and patches."""
        return self.prefix + self.count

    @property
    def has_class_token(self) -> bool:
        """Whether there is a class token among the prefix tokens."""
        return self.class_index is not None

    def patches(self, tokens: Tensor, *, dim: int = 1) -> Tensor:
        """The patch tokens along one dimension: (B, T, …) -> (B, N, …). A view."""
        if tokens.shape[dim] != self.tokens:
            raise ValueError(
                f"`tokens` should have T={self.tokens} along dimension {dim} ({self.prefix} prefix + "
                f"{self.grid.rows}x{self.grid.cols} patches); got {tuple(tokens.shape)}. "
                "Make the layout from the same image size: backbone.layout(images)."
            )
        return tokens.narrow(dim, self.prefix, self.count)

    def class_token(self, tokens: Tensor, *, dim: int = 1) -> Tensor:
        """The class token: (B, T, …) -> (B, …). A model without one raises ValueError."""
        if self.class_index is None:
            raise ValueError("this backbone has no class token; use the patches: layout.patches(tokens).")
        return tokens.select(dim, self.class_index)

    def class_token_or_none(self, tokens: Tensor, *, dim: int = 1) -> Tensor | None:
        """The class token as `class_token` has it, or None where the model has none."""
        return self.class_token(tokens, dim=dim) if self.has_class_token else None

    def prefix_tokens(self, tokens: Tensor, *, dim: int = 1) -> Tensor:
        """Class token and registers along one dimension: (B, T, …) -> (B, P, …), P = 0 where there are none. A view."""
        return tokens.narrow(dim, 0, self.prefix)

    def with_patches(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """New tokens with other patches and the same prefix: (B, T, D), (B, N, D) -> (B, T, D)."""
        if tokens.shape[1] != self.tokens or patches.shape[1] != self.count:
            raise ValueError(
                f"`tokens` should have T={self.tokens} and `patches` N={self.count} along dimension 1; got "
                f"{tuple(tokens.shape)} and {tuple(patches.shape)}. Make the layout from the same image size: "
                "backbone.layout(images)."
            )
        return torch.cat([tokens[:, : self.prefix], patches], dim=1)

    def to_map(self, patches: Tensor, *, dim: int = 1) -> Tensor:
        """Unfolds one dimension into rows and columns: (B, N, …) -> (B, rows, cols, …)."""
        if patches.shape[dim] != self.count:
            raise ValueError(
                f"`patches` should have N={self.count} along dimension {dim}; got {tuple(patches.shape)}. "
                "Drop the prefix tokens first: layout.patches(tokens)."
            )
        return patches.unflatten(dim, (self.grid.rows, self.grid.cols))

    def to_patches(self, maps: Tensor, *, dim: int = 1) -> Tensor:
        """Folds rows and columns back into one dimension: (B, rows, cols, …) -> (B, N, …)."""
        if tuple(maps.shape[dim : dim + 2]) != (self.grid.rows, self.grid.cols):
            raise ValueError(
                f"`maps` should have {self.grid.rows} rows and {self.grid.cols} columns at dimension {dim}; "
                f"got {tuple(maps.shape)}."
            )
        return maps.flatten(dim, dim + 1)


def padding_to_patches(size: tuple[int, int], patch_size: tuple[int, int]) -> Padding:
    """Padding that brings (height, width) up to a multiple of the patch, split evenly to both sides.

    An odd pixel goes to the bottom or right.
    Source: the released code of ClearCLIP and ProxyCLIP pads windows so; this project does it everywhere.
    Deviation: the released codes of SCLIP, NACLIP, SC-CLIP and SFP leave out the pixels that fill no patch.
    """
    vertical, horizontal = -size[0] % patch_size[0], -size[1] % patch_size[1]
    top, left = vertical // 2, horizontal // 2
    return Padding(top, vertical - top, left, horizontal - left)


def pad_to_patches(maps: Tensor, patch_size: tuple[int, int], *, value: float = 0.0) -> Tensor:
    """(…, h, w) -> (…, h', w') with whole patches; new pixels hold `value` (0 is the mean color once normalized)."""
    padding = padding_to_patches((maps.shape[-2], maps.shape[-1]), patch_size)
    if not any(padding):
        return maps
    return F.pad(maps, (padding.left, padding.right, padding.top, padding.bottom), value=value)


def grid_of(size: tuple[int, int], patch_size: tuple[int, int]) -> Grid:
    """Patches of an image of (height, width) after padding; at least 1 x 1."""
    if min(size) < 1:
        raise ValueError(f"an image should have at least 1x1 pixels; got height x width = {size[0]}x{size[1]}.")
    return Grid(-(-size[0] // patch_size[0]), -(-size[1] // patch_size[1]))
