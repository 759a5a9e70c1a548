"""The steps of a timm vision transformer over its stock modules, for any backbone that holds one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from timm import layers
from timm.models import deit, eva, vision_transformer
from torch import Tensor

from diagnostics.backbones.base import Block
from diagnostics.backbones.positional import Positional
from diagnostics.backbones.timm_blocks import block_of
from diagnostics.backbones.timm_reasons import refuse
from diagnostics.backbones.timm_rotary import check_rotary, rotations
from diagnostics.layout import Layout

TRUNKS = (vision_transformer.VisionTransformer, deit.VisionTransformerDistilled, eva.Eva)


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
        if type(trunk.patch_embed) is not layers.PatchEmbed:
            raise refuse(name, "patch embedding", trunk.patch_embed)
        # Refinement by attention among the patches, newer timm only.
        poolings = (type(None), layers.AttentionPoolLatent, getattr(layers, "AttentionPoolPrr", None))
        if type(trunk.attn_pool) not in poolings:
            raise refuse(name, "pooling", trunk.attn_pool)
        if getattr(trunk.attn_pool, "pos_embed", None) is not None:
            raise ValueError(f"`{name}` can't run: its attention pooling has positions of its own, fixed to one size.")
        if not trunk.global_pool:
            raise ValueError(
                f"`{name}` pools nothing (global_pool=''), so it has no output for an image; choose a pooling: "
                "model.reset_classifier(0, global_pool='token'), or 'avg' without a class token."
            )
        if trunk.patch_embed.proj.in_channels != 3:
            raise ValueError(
                f"`{name}` should take RGB images; it takes {trunk.patch_embed.proj.in_channels} channels."
            )

        self.trunk, self.name = trunk, name
        self.blocks: list[Block] = [block_of(block, name) for block in trunk.blocks]
        self.width: int = trunk.embed_dim
        rows, cols = trunk.patch_embed.grid_size
        height, width = trunk.patch_embed.patch_size
        self.patch_size: tuple[int, int] = (height, width)
        self.native_size: tuple[int, int] = (rows * height, cols * width)
        self.distilled = type(trunk) is deit.VisionTransformerDistilled
        self.prefix = sum(token.shape[1] for token in self._prefix_tokens())
        self.class_index = 0 if trunk.cls_token is not None else None

        self.rope: Any = getattr(trunk, "rope", None)
        if self.rope is not None:
            self._check_rotary()

        positions = self.position_table()
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
        if self.rope is None:
            return [None] * len(self.blocks)
        half = bool(self.trunk.blocks[0].attn.rotate_half)
        turns = rotations(self.rope, layout.grid, len(self.blocks), half=half)
        return [Positional(layout=layout, rotation=turn) for turn in turns]

    def _prefix_tokens(self) -> list[Tensor]:
        trunk = self.trunk
        # The distilled model ignores registers.
        tokens = (trunk.cls_token, trunk.dist_token if self.distilled else trunk.reg_token)
        return [token for token in tokens if token is not None]

    def embed_patches(self, images: Tensor) -> Tensor:
        """Patch embedding and its norm, if any: (B, 3, h, w), whole patches -> (B, N, D)."""
        # The parts, not the whole module, which insists on one image size and may hand back a grid.
        embed = self.trunk.patch_embed
        return embed.norm(embed.proj(images).flatten(2).mT)

    def position_table(self) -> tuple[Tensor, int] | None:
        """The learned positions (prefix' + N, D) and prefix', the rows for prefix tokens (often 0); None if none."""
        if self.trunk.pos_embed is None:
            return None
        return self.trunk.pos_embed[0], 0 if self.trunk.no_embed_class else self.prefix

    def assemble(self, patches: Tensor, positions: Tensor | None) -> Tensor:
        """Positions added, prefix tokens joined, and the norm before the blocks, if any: (B, N, D) -> (B, T, D)."""
        patches_only = self.trunk.no_embed_class
        if positions is not None and patches_only:
            patches = patches + positions
        prefix = [token.expand(len(patches), -1, -1) for token in self._prefix_tokens()]
        tokens = torch.cat([*prefix, patches], dim=1)
        if positions is not None and not patches_only:
            tokens = tokens + positions
        return self.trunk.norm_pre(tokens)

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
        if trunk.attn_pool is not None:
            tokens = trunk.attn_pool(tokens.flatten(0, 1)[:, None]).unflatten(0, tokens.shape[:2])
        if self.distilled:  # its head knows no norm after pooling
            return tokens if pre_logits else (trunk.head(tokens) + trunk.head_dist(tokens)) / 2
        tokens = trunk.fc_norm(tokens)
        return tokens if pre_logits else trunk.head(tokens)
