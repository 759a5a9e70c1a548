"""timm's transformer blocks as ours: norms before or after the branches, layer scales."""

from __future__ import annotations

from typing import Any, final

from timm.models import beit, eva, vision_transformer, vision_transformer_relpos
from torch import Tensor

from diagnostics.backbones.base import Block
from diagnostics.backbones.timm_branches import ATTENTIONS, feed_forward, heads_of, merged
from diagnostics.backbones.timm_parallel import block_of_branches
from diagnostics.backbones.timm_reasons import refuse

# Norms before the branches, and after them.
PRE_NORM = (vision_transformer.Block, eva.EvaBlock, beit.Block, vision_transformer_relpos.RelPosBlock)
POST_NORM = (
    vision_transformer.ResPostBlock,
    eva.EvaBlockPostNorm,
    vision_transformer_relpos.ResPostRelPosBlock,
)


@final
class TimmBlock(Block):
    """A timm block of attention, then a feed-forward network, each added to the residual stream.

    Norms stand before the branches, or after them. q/k norm, norm of the mixed values, output gate, layer scale,
    key heads that heads share: where the model has them. `ffn_hidden` is what enters the last linear map: (B, T, F),
    after the activation; for a gated network the gated product (F is the width after gating), and after the norm on it.
    """

    def __init__(self, block: Any, name: str) -> None:
        if type(block) not in PRE_NORM + POST_NORM:
            raise refuse(name, "block", block)
        if type(block.attn) not in ATTENTIONS:
            raise refuse(name, "attention", block.attn)
        self.mlp = feed_forward(block.mlp, name)
        self.block: Any = block
        self.attn: Any = block.attn
        self.heads: int = block.attn.num_heads
        self.post_norm = type(block) in POST_NORM

    def norm(self, x: Tensor) -> Tensor:
        return x if self.post_norm else self.block.norm1(x)

    def project_heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return heads_of(self.attn, normed)

    def merge_heads(self, mixed: Tensor, normed: Tensor) -> Tensor:
        return self._ended(1, merged(self.attn, mixed, normed))

    def ffn_hidden(self, x: Tensor) -> Tensor:
        return self.mlp.hidden(x if self.post_norm else self.block.norm2(x))

    def ffn_out(self, hidden: Tensor) -> Tensor:
        return self._ended(2, self.mlp.out(hidden))

    def _ended(self, branch: int, x: Tensor) -> Tensor:
        """The end of a branch: the norm that stands after it, or its layer scale."""
        if self.post_norm:
            return getattr(self.block, f"norm{branch}")(x)
        scale = getattr(self.block, f"ls{branch}", None)
        if scale is not None:
            return scale(x)
        gain = getattr(self.block, f"gamma_{branch}", None)
        return x if gain is None else gain * x


def block_of(block: Any, name: str) -> Block:
    """Our block over one of timm's; ValueError with the reason for a kind that can't run."""
    return block_of_branches(block, name) or TimmBlock(block, name)
