"""The steps of a timm vision transformer over its stock modules, for any backbone that holds one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, final

import torch
from timm import layers
from timm.models import beit, deit, eva, naflexvit, vision_transformer, vision_transformer_relpos
from torch import Tensor

from diagnostics.backbones.base import Block
from diagnostics.backbones.positional import Positional
from diagnostics.backbones.timm_bias import BiasTables, bias_sources, displacements
from diagnostics.backbones.timm_blocks import block_of
from diagnostics.backbones.timm_reasons import refuse
from diagnostics.backbones.timm_rotary import check_rotary, rotations
from diagnostics.backbones.timm_stems import Stem, learned_positions, stem_of
from diagnostics.layout import Layout

TRUNKS = (
    vision_transformer.VisionTransformer,
    deit.VisionTransformerDistilled,
    eva.Eva,
    beit.Beit,
    vision_transformer_relpos.VisionTransformerRelPos,
    naflexvit.NaFlexVit,
)


@final
class TimmTower:
    """The steps of a timm `VisionTransformer` or one of its kin, over its stock modules.

    A trunk, block, attention, feed-forward network, patch embedding or pooling of a type that is not known here is
    refused by name with ValueError, so that nothing runs a little wrong. Dropout and stochastic depth are left out: the
    trunk is meant to be in eval mode.

    `native_size` is the grid in pixels. Where the model's own image size is no multiple of its patch (SigLIP So400m:
    384 with patch 14) the stock model drops the rest at the right and bottom; its native size here is 378.
    """

    def __init__(self, trunk: Any, name: str) -> None:
        if type(trunk) not in TRUNKS:
            raise refuse(name, "type", trunk)
        self.stem: Stem = stem_of(trunk, name)
        # Refinement by attention among the patches, newer timm only.
        poolings = (type(None), layers.AttentionPoolLatent, getattr(layers, "AttentionPoolPrr", None))
        self.attn_pool: Any = getattr(trunk, "attn_pool", None)
        if type(self.attn_pool) not in poolings:
            raise refuse(name, "pooling", self.attn_pool)
        if getattr(self.attn_pool, "pos_embed", None) is not None:
            raise ValueError(f"`{name}` can't run: its attention pooling has positions of its own, fixed to one size.")
        if not trunk.global_pool:
            raise ValueError(
                f"`{name}` pools nothing (global_pool=''), so it has no output for an image; choose a pooling: "
                "model.reset_classifier(0, global_pool='token'), or 'avg' without a class token."
            )
        channels = _channels(self.stem)
        if channels != 3:
            raise ValueError(f"`{name}` should take RGB images; it takes {channels} channels.")

        self.trunk, self.name = trunk, name
        self.blocks: list[Block] = [block_of(block, name) for block in trunk.blocks]
        self.width: int = trunk.embed_dim
        self.patch_size = height, width = self.stem.patch_size
        rows, cols = self.stem.grid
        self.native_size: tuple[int, int] = (rows * height, cols * width)
        self.table_grid, self.positions = self.stem.table_grid, self.stem.positions
        # Where tokens and positions are kept: NaFlex has a module for them.
        self.holder: Any = getattr(trunk, "embeds", trunk)
        self.distilled = type(trunk) is deit.VisionTransformerDistilled
        self.prefix = sum(token.shape[1] for token in self._prefix_tokens())
        self.class_index = 0 if self.holder.cls_token is not None else None

        self.rope: Any = getattr(trunk, "rope", None)
        if self.rope is not None:
            self._check_rotary()
        sources = bias_sources(trunk, name)
        self.biases = BiasTables(sources) if any(sources) else None
        for block, parts in zip(self.blocks, sources, strict=True):
            block.needs_grid = block.needs_grid or bool(parts)

        positions = self.position_table()
        rows, cols = self.table_grid
        if positions is not None and positions[0].shape[0] != positions[1] + rows * cols:
            raise ValueError(
                f"`{name}` should have {positions[1]} + {rows}x{cols} positions; it has {positions[0].shape[0]}. "
                "The stock model can't run either: weights and architecture disagree."
            )

    def _check_rotary(self) -> None:
        check_rotary(self.rope, self.name)
        for block in self.trunk.blocks:
            if block.attn.num_prefix_tokens != self.prefix:
                raise ValueError(
                    f"`{self.name}` should leave its {self.prefix} prefix tokens unrotated; a block leaves "
                    f"{block.attn.num_prefix_tokens}. The stock model would turn each patch by another's place."
                )
        for block in self.blocks:
            block.needs_grid = True

    def positional(self, layout: Layout) -> Sequence[Positional | None]:
        """What each block's attention knows of the grid; see `Backbone.positional`."""
        if self.biases is not None:
            return self._biased(layout)
        if self.rope is None:
            return [None] * len(self.blocks)
        half = bool(self.trunk.blocks[0].attn.rotate_half)
        turns = rotations(self.rope, layout.grid, len(self.blocks), half=half)
        return [Positional(layout=layout, rotation=turn) for turn in turns]

    def _biased(self, layout: Layout) -> list[Positional | None]:
        device = next(self.trunk.parameters()).device
        index = cache(lambda: displacements(layout, device))  # made by the first block that runs, for all
        return [
            Positional(layout=layout, bias=partial(self._bias, block, layout, index)) if parts else None
            for block, parts in enumerate(self.biases.sources if self.biases else ())
        ]

    def _bias(self, block: int, layout: Layout, index: Callable[[], Tensor]) -> Tensor:
        assert self.biases is not None
        return self.biases.bias(block, layout, index())

    def _prefix_tokens(self) -> list[Tensor]:
        holder = self.holder
        # The distilled model ignores registers.
        tokens = (holder.cls_token, holder.dist_token if self.distilled else getattr(holder, "reg_token", None))
        return [token for token in tokens if token is not None]

    def embed_patches(self, images: Tensor) -> Tensor:
        """Patch embedding and its norm, if any: (B, 3, h, w), whole patches -> (B, N, D)."""
        return self.stem(images)

    def position_table(self) -> tuple[Tensor, int] | None:
        """The learned positions (prefix' + N, D) and prefix', the rows for prefix tokens (often 0); None if none."""
        if self.holder is not self.trunk:
            learned = learned_positions(self.holder)
            return None if learned is None else (learned, 0)
        table = getattr(self.trunk, "pos_embed", None)
        return None if table is None else (table[0], 0 if self._positions_of_patches_only else self.prefix)

    @property
    def _positions_of_patches_only(self) -> bool:
        return self.holder is not self.trunk or bool(getattr(self.trunk, "no_embed_class", False))

    def assemble(self, patches: Tensor, positions: Tensor | None) -> Tensor:
        """Positions added, prefix tokens joined, and the norm before the blocks, if any: (B, N, D) -> (B, T, D)."""
        patches_only = self._positions_of_patches_only
        if positions is not None and patches_only:
            patches = patches + positions
        prefix = [token.expand(len(patches), -1, -1) for token in self._prefix_tokens()]
        tokens = torch.cat([*prefix, patches], dim=1)
        if positions is not None and not patches_only:
            tokens = tokens + positions
        norm = getattr(self.trunk, "norm_pre", None)
        return tokens if norm is None else norm(tokens)

    def final_norm(self, tokens: Tensor) -> Tensor:
        """The norm after the blocks; none where the model norms after pooling: (B, T, D) -> (B, T, D)."""
        return self.trunk.norm(tokens)

    def pool(self, tokens: Tensor, *, pre_logits: bool = False) -> Tensor:
        """The stock output for the image: tokens that leave the last block (B, T, D) -> (B, D').

        D' is the head's width, or D without a head or with `pre_logits`, which stops before it.
        """
        return self.trunk.forward_head(self.trunk.norm(tokens), pre_logits=pre_logits)

    def dense(self, tokens: Tensor, *, pre_logits: bool = False) -> Tensor:
        """Each token brought where the pooled token is, as if it stood alone: (B, T, D) -> (B, T, D').

        Final norm, pooling of one token, norm after pooling, head. Mean and maximum of one token are the token. D' as
        for `pool`. Our choice: attention pooling (SigLIP) pools each token as a sequence of one, so its weight is 1 and
        what is left are the value, output and MLP maps; the distilled model gives each token the mean of its two heads.
        """
        trunk = self.trunk
        tokens = trunk.norm(tokens)
        if self.attn_pool is not None:
            tokens = self.attn_pool(tokens.flatten(0, 1)[:, None]).unflatten(0, tokens.shape[:2])
        if self.distilled:  # its head knows no norm after pooling
            return tokens if pre_logits else (trunk.head(tokens) + trunk.head_dist(tokens)) / 2
        tokens = trunk.fc_norm(tokens)
        return tokens if pre_logits else trunk.head(tokens)


def _channels(stem: Stem) -> int:
    """Channels of the images that a trunk takes."""
    if hasattr(stem.embed, "in_chans"):
        return int(stem.embed.in_chans)
    return int(stem.embed.proj.in_channels)
