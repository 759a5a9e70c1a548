"""The two branches of timm's blocks: attention of several kinds, and feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timm import layers
from timm.models import beit, eva, vision_transformer_relpos, vitamin
from torch import Tensor, nn

from diagnostics.backbones.activation import activated
from diagnostics.backbones.base import join_heads, split_heads
from diagnostics.backbones.timm_reasons import refuse

# Attention

# Kinds of attention that are q, k, v of linear maps, one softmax, and a linear map; with what else they may have.
ATTENTIONS = (
    layers.Attention,
    layers.AttentionRope,
    eva.EvaAttention,
    beit.Attention,
    vision_transformer_relpos.RelPosAttention,
)


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


def _geglu_hidden(mlp: Any, x: Tensor) -> Tensor:
    normed = mlp.norm(x)
    return mlp.act(mlp.w0(normed)) * mlp.w1(normed)


# What enters the last linear map, for each kind of feed-forward network, and the name of that map.
KINDS: dict[type[nn.Module], tuple[Callable[[Any, Tensor], Tensor], str]] = {
    layers.Mlp: (_mlp_hidden, "fc2"),
    layers.GluMlp: (_glu_hidden, "fc2"),
    layers.SwiGLU: (_swiglu_hidden, "fc2"),
    vitamin.GeGluMlp: (_geglu_hidden, "w2"),
}


class FeedForward(NamedTuple):
    """A feed-forward network in two steps: to its hidden units, and their last linear map."""

    mlp: Any
    make: Callable[[Any, Tensor], Tensor]
    out: nn.Linear

    def hidden(self, x: Tensor) -> Tensor:
        """What enters the last linear map: (B, T, D) -> (B, T, F)."""
        return self.make(self.mlp, x)


def feed_forward(mlp: Any, name: str) -> FeedForward:
    """The two steps of a feed-forward network; ValueError for a kind that is not known."""
    make, last = KINDS.get(type(mlp), (None, ""))
    if make is None or not isinstance(getattr(mlp, last), nn.Linear):
        raise refuse(name, "feed-forward network", mlp)
    return FeedForward(mlp, make, getattr(mlp, last))
