"""timm's transformer blocks as ours: attention of several kinds, norms before or after the branches, layer scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
import torch.nn.functional as F
from timm import layers
from timm.models import eva, vision_transformer
from torch import Tensor, nn

from diagnostics.backbones.activation import activated
from diagnostics.backbones.base import Block, join_heads, split_heads
from diagnostics.backbones.timm_reasons import refuse

# Attention


def _fused(attn: Any, normed: Tensor) -> Tensor:
    """Queries, keys and values of one linear map, side by side: (B, T, D) -> (B, T, 3·H·d)."""
    if getattr(attn, "q_bias", None) is None:
        return attn.qkv(normed)
    # The keys' bias is a buffer of zeros, which softmax does not see.
    bias = torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])
    if attn.qkv_bias_separate:
        return attn.qkv(normed) + bias
    return F.linear(normed, attn.qkv.weight, bias)


def _projected(attn: Any, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of each head, before norms: (B, T, D) -> (B, H, T, d), and twice (B, H', T, d) with H' key heads."""
    if attn.qkv is not None:
        qkv = _fused(attn, normed).unflatten(-1, (3, attn.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v
    shared = getattr(attn, "num_kv_heads", attn.num_heads)
    q = split_heads(attn.q_proj(normed), attn.num_heads)
    return q, split_heads(attn.k_proj(normed), shared), split_heads(attn.v_proj(normed), shared)


def heads_of(attn: Any, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v of each head, normed, keys and values that heads share repeated: (B, T, D) -> three (B, H, T, d)."""
    q, k, v = _projected(attn, normed)
    q, k = _norm(attn, "q_norm")(q), _norm(attn, "k_norm")(k)
    groups = getattr(attn, "num_kv_groups", 1)
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    return q, k, v


def merged(attn: Any, mixed: Tensor, normed: Tensor) -> Tensor:
    """Mixed values through norm, gate and out-projection: (B, H, T, d) -> (B, T, D)."""
    joined = _norm(attn, "norm")(join_heads(mixed))
    gate = getattr(attn, "gate", None)
    if gate is not None:
        joined = joined * gate(normed).sigmoid()
    return attn.proj(joined)


NOTHING = nn.Identity()


def _norm(attn: Any, name: str) -> Any:
    return getattr(attn, name, NOTHING)


# Feed-forward networks


def _mlp_hidden(mlp: Any, x: Tensor) -> Tensor:
    return mlp.norm(activated(mlp.act, mlp.fc1(x)))


def _glu_hidden(mlp: Any, x: Tensor) -> Tensor:
    first, second = mlp.fc1(x).chunk(2, dim=-1)
    return mlp.norm(first * mlp.act(second) if mlp.gate_last else mlp.act(first) * second)


def _swiglu_hidden(mlp: Any, x: Tensor) -> Tensor:
    return mlp.norm(mlp.act(mlp.fc1_g(x)) * mlp.fc1_x(x))


# What enters the last linear map, for each kind of feed-forward network.
HIDDEN: dict[type[nn.Module], Callable[[Any, Tensor], Tensor]] = {
    layers.Mlp: _mlp_hidden,
    layers.GluMlp: _glu_hidden,
    layers.SwiGLU: _swiglu_hidden,
}


def checked_mlp(mlp: Any, name: str) -> Callable[[Any, Tensor], Tensor]:
    """What makes the hidden units of a feed-forward network; ValueError for a kind that is not known."""
    if type(mlp) not in HIDDEN or not isinstance(mlp.fc2, nn.Linear):
        raise refuse(name, "feed-forward network", mlp)
    return HIDDEN[type(mlp)]


# Blocks

# Kinds of attention that are q, k, v of linear maps, one softmax, and a linear map; with what else they may have.
ATTENTIONS = (layers.Attention, layers.AttentionRope, eva.EvaAttention)
# Norms before the branches, and after them.
PRE_NORM = (vision_transformer.Block, eva.EvaBlock)
POST_NORM = (vision_transformer.ResPostBlock, eva.EvaBlockPostNorm)


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
        self.hidden = checked_mlp(block.mlp, name)
        self.block: Any = block
        self.attn: Any = block.attn
        self.mlp: Any = block.mlp
        self.heads: int = block.attn.num_heads
        self.post_norm = type(block) in POST_NORM

    def norm(self, x: Tensor) -> Tensor:
        return x if self.post_norm else self.block.norm1(x)

    def project_heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return heads_of(self.attn, normed)

    def merge_heads(self, mixed: Tensor, normed: Tensor) -> Tensor:
        return self._ended(1, merged(self.attn, mixed, normed))

    def ffn_hidden(self, x: Tensor) -> Tensor:
        return self.hidden(self.mlp, x if self.post_norm else self.block.norm2(x))

    def ffn_out(self, hidden: Tensor) -> Tensor:
        return self._ended(2, self.mlp.fc2(hidden))

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
    return TimmBlock(block, name)
