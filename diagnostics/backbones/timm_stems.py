"""What makes patches of an image in timm models: a convolution of one patch, a stem of several, or a linear map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from timm import layers
from timm.models import naflexvit
from torch import Tensor

from diagnostics.backbones.timm_reasons import refuse
from diagnostics.layout import Grid


@dataclass(frozen=True, kw_only=True)
class Stem:
    """The patch embedding over stock modules.

    `embed` is the module; `patch_size` (height, width) in pixels is what one token stands for: the stride of all
    convolutions before the blocks. `grid` is the native one, `table_grid` that of the learned positions. `positions`
    names how timm stretches them.
    """

    embed: Any
    patch_size: tuple[int, int]
    grid: Grid
    table_grid: Grid
    positions: str = "bicubic-antialiased"

    def __call__(self, images: Tensor) -> Tensor:
        """Whole patches (B, 3, h, w) -> (B, N, D), row by row, before positions."""
        embed = self.embed
        if type(embed) is naflexvit.NaFlexEmbeds:
            return self._linear(images) if embed.is_linear else embed.norm(embed.proj(images).flatten(2).mT)
        if type(embed) is layers.PatchEmbed:
            # The parts, not the whole module, which insists on one image size and may hand back a grid.
            return embed.norm(embed.proj(images).flatten(2).mT)
        features = embed.backbone(images)
        features = embed.proj(features[-1] if isinstance(features, list | tuple) else features)
        wanted = tuple(size // patch for size, patch in zip(images.shape[-2:], self.patch_size, strict=True))
        if tuple(features.shape[-2:]) != wanted:
            raise ValueError(
                f"the stem should give {wanted[0]}x{wanted[1]} tokens for {images.shape[-2]}x{images.shape[-1]} "
                f"pixels; it gave {features.shape[-2]}x{features.shape[-1]}. Its stride is not the same everywhere: "
                "take the model's native size."
            )
        return features.flatten(2).mT

    def _linear(self, images: Tensor) -> Tensor:
        """Each patch's pixels as one vector, through the linear map."""
        embed, (height, width) = self.embed, self.patch_size
        patches = images.unflatten(3, (-1, width)).unflatten(2, (-1, height))  # (B, 3, rows, height, cols, width)
        order = (0, 2, 4, 3, 5, 1) if embed.channels_last else (0, 2, 4, 1, 3, 5)
        vectors = patches.permute(order).flatten(3).flatten(1, 2)
        if embed.norm_input is not None:
            vectors = embed.norm_input(vectors)
        return embed.norm(embed.proj(vectors))


def stem_of(trunk: Any, name: str) -> Stem:
    """The stem of a trunk; ValueError for a kind that is not known."""
    if type(trunk) is naflexvit.NaFlexVit:
        return _flexible(trunk, name)
    embed = trunk.patch_embed
    if type(embed) not in (layers.PatchEmbed, layers.HybridEmbed):
        raise refuse(name, "patch embedding", embed)
    height, width = embed.patch_size
    if type(embed) is layers.HybridEmbed:
        height, width = height * embed.feature_ratio[0], width * embed.feature_ratio[1]
    rows, cols = embed.grid_size
    grid = Grid(rows, cols)
    return Stem(embed=embed, patch_size=(height, width), grid=grid, table_grid=grid)


# How NaFlex stretches positions (mode, antialiased, corners aligned, by the longer side), by our names.
STRETCHED = {
    ("bicubic", True, False, False): "bicubic-antialiased",
    ("bicubic", True, False, True): "bicubic-antialiased-square",
    ("bilinear", False, False, False): "bilinear",
    ("bilinear", True, False, False): "bilinear-antialiased",
    ("bilinear", False, False, True): "bilinear-square",
    ("bilinear", False, True, True): "bilinear-corners-square",
}


def _flexible(trunk: Any, name: str) -> Stem:
    """NaFlex: any size and aspect; native is what its weights were published for, or its grid of positions."""
    embed = trunk.embeds
    how = (embed.pos_embed_interp_mode, embed.pos_embed_antialias, embed.pos_embed_align_corners)
    if embed.pos_embed_type == "factorized":  # two linear interpolations, which of a sum are a bilinear one
        how = ("bilinear", False, False)
    known = STRETCHED.get((*how, embed.pos_embed_ar_preserving))
    if known is None and embed.pos_embed_type != "none":
        raise ValueError(
            f"`{name}` can't run: it stretches positions in a way that is not known here (mode, antialias, corners, "
            f"aspect: {(*how, embed.pos_embed_ar_preserving)}). Known: {', '.join(map(str, STRETCHED))}."
        )
    height, width = embed.patch_size
    table = Grid(*(embed.pos_embed_grid_size or (16, 16)))  # 16 x 16: our choice, where there are no positions
    size = (getattr(trunk, "pretrained_cfg", None) or {}).get("input_size")
    grid = table if size is None else Grid(max(size[1] // height, 1), max(size[2] // width, 1))
    return Stem(
        embed=embed, patch_size=(height, width), grid=grid, table_grid=table, positions=known or "bicubic-antialiased"
    )


def learned_positions(embed: Any) -> Tensor | None:
    """NaFlex's positions as a table (N, D): learned for each place, or the sum of those of row and column."""
    if embed.pos_embed_type == "learned":
        table: Tensor = embed.pos_embed[0].flatten(0, 1)
        return table
    if embed.pos_embed_type == "factorized":
        return torch.add(embed.pos_embed_y[0][:, None], embed.pos_embed_x[0]).flatten(0, 1)
    return None
