"""timm's blocks with branches side by side, and with attention that is a difference of two softmaxes."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from timm import layers
from timm.models import vision_transformer
from torch import Tensor

from diagnostics.backbones.activation import activated
from diagnostics.backbones.base import Block, attend, attention_weights, join_heads, split_heads
from diagnostics.backbones.timm_branches import ATTENTIONS, feed_forward, heads_of, merged
from diagnostics.backbones.timm_reasons import refuse


@final
class ParallelBlock(Block):
    """Attention and feed-forward network side by side, from one linear map of the block's input (ViT-22B).

    `block_sum` is block input and attention output, which the feed-forward network does not read; `block_out` is the
    sum of all three, as in any block. The bias of a joint out-projection counts to the attention's output (our choice).
    """

    parallel = True

    def __init__(self, block: Any) -> None:
        self.block: Any = block
        self.heads: int = block.num_heads
        self.differential = type(block) is vision_transformer.DiffParallelScalingBlock
        self.hidden_width: int = block.in_split[0]

    def norm(self, x: Tensor) -> Tensor:
        return self.block.in_norm(x)

    def _projected(self, normed: Tensor, rows: slice) -> Tensor:
        bias = self.block.in_proj.bias
        return F.linear(normed, self.block.in_proj.weight[rows], None if bias is None else bias[rows])

    def project_heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self._projected(normed, slice(self.hidden_width, None)).chunk(3, dim=-1)
        values = split_heads(v, self.heads)
        if self.differential:
            q, k = pairs(q, k, self.heads, self.block)
            return q, k, values
        return self.block.q_norm(split_heads(q, self.heads)), self.block.k_norm(split_heads(k, self.heads)), values

    def weights(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
        return difference(q, k, bias, self.block) if self.differential else attention_weights(q, k, bias)

    def attended(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        return difference_attended(q, k, v, bias, self.block) if self.differential else attend(q, k, v, bias)

    def merge_heads(self, mixed: Tensor, normed: Tensor) -> Tensor:
        if self.differential:
            mixed = damped(mixed, self.block)
        joined, joint = join_heads(mixed), self.block.out_proj
        if joint is not None:
            return self.block.ls(F.linear(joined, joint.weight[:, : joined.shape[-1]], joint.bias))
        return self.block.ls(self.block.attn_out_proj(joined))

    def ffn_hidden(self, x: Tensor) -> Tensor:
        hidden = self._projected(self.norm(x), slice(self.hidden_width))
        if self.block.mlp_bias is not None:
            hidden = hidden + self.block.mlp_bias
        return activated(self.block.mlp_act, hidden)

    def ffn_out(self, hidden: Tensor) -> Tensor:
        joint = self.block.out_proj
        if joint is not None:
            return self.block.ls(F.linear(hidden, joint.weight[:, -hidden.shape[-1] :]))
        return self.block.ls(self.block.mlp_out_proj(hidden))


@final
class ManyBranchesBlock(Block):
    """Several attentions side by side, then several feed-forward networks side by side.

    Their heads count as heads of one attention, in the order of the branches, and so do their hidden units; `normed`
    holds the branches' norms side by side, (B, T, P·D) for P branches. Source: Touvron et al. 2022, arXiv:2203.09795.
    """

    def __init__(self, block: Any, name: str) -> None:
        for branch in block.attns:
            if type(branch.attn) not in ATTENTIONS:
                raise refuse(name, "attention", branch.attn)
        self.mlps = [feed_forward(branch.mlp, name) for branch in block.ffns]
        self.block: Any = block
        self.heads: int = sum(branch.attn.num_heads for branch in block.attns)

    def norm(self, x: Tensor) -> Tensor:
        return torch.cat([branch.norm(x) for branch in self.block.attns], dim=-1)

    def project_heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        branches = self.block.attns
        parts = normed.chunk(len(branches), dim=-1)
        heads = [heads_of(branch.attn, part) for branch, part in zip(branches, parts, strict=True)]
        q, k, v = (torch.cat(streams, dim=1) for streams in zip(*heads, strict=True))
        return q, k, v

    def merge_heads(self, mixed: Tensor, normed: Tensor) -> Tensor:
        branches = self.block.attns
        parts = zip(branches, mixed.chunk(len(branches), dim=1), normed.chunk(len(branches), dim=-1), strict=True)
        return torch.stack([branch.ls(merged(branch.attn, values, part)) for branch, values, part in parts]).sum(dim=0)

    def ffn_hidden(self, x: Tensor) -> Tensor:
        branches = zip(self.block.ffns, self.mlps, strict=True)
        return torch.cat([mlp.hidden(branch.norm(x)) for branch, mlp in branches], dim=-1)

    def ffn_out(self, hidden: Tensor) -> Tensor:
        parts = zip(self.block.ffns, self.mlps, hidden.chunk(len(self.mlps), dim=-1), strict=True)
        return torch.stack([branch.ls(mlp.out(part)) for branch, mlp, part in parts]).sum(dim=0)


@final
class DifferentialBlock(Block):
    """A pre-norm block whose attention is softmax(q₁·k₁ᵀ) - λ·softmax(q₂·k₂ᵀ). Source: Ye et al., arXiv:2410.05258.

    The norm of each head's mixed values and its damping are part of the out-projection.
    """

    differential = True

    def __init__(self, block: Any, name: str) -> None:
        self.mlp = feed_forward(block.mlp, name)
        self.block: Any = block
        self.attn: Any = block.attn
        self.heads: int = block.attn.num_heads

    def norm(self, x: Tensor) -> Tensor:
        return self.block.norm1(x)

    def project_heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.attn.qkv(normed).chunk(3, dim=-1)
        q, k = pairs(q, k, self.heads, self.attn)
        return q, k, split_heads(v, self.heads)

    def weights(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
        return difference(q, k, bias, self.attn)

    def attended(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        return difference_attended(q, k, v, bias, self.attn)

    def merge_heads(self, mixed: Tensor, normed: Tensor) -> Tensor:
        return self.block.ls1(self.attn.proj(self.attn.norm(join_heads(damped(mixed, self.attn)))))

    def ffn_hidden(self, x: Tensor) -> Tensor:
        return self.mlp.hidden(self.block.norm2(x))

    def ffn_out(self, hidden: Tensor) -> Tensor:
        return self.block.ls2(self.mlp.out(hidden))


# Differential attention: `part` is the module that holds its norms and λ. Queries and keys are (B, 2·H, T, d/2), two
# of each head one after the other.


def pairs(q: Tensor, k: Tensor, heads: int, part: Any) -> tuple[Tensor, Tensor]:
    """Both queries and both keys of each head, normed: twice (B, T, D) -> twice (B, 2·H, T, d/2)."""
    return part.q_norm(split_heads(q, 2 * heads)), part.k_norm(split_heads(k, 2 * heads))


def share(part: Any, like: Tensor) -> Tensor:
    """λ, how much of the second softmax is taken away: a number."""
    if part.lambda_a is not None:
        first, second = part.lambda_a.exp(), part.lambda_b.exp()
    else:
        first = (part.lambda_q1 * part.lambda_k1).sum().float().exp()
        second = (part.lambda_q2 * part.lambda_k2).sum().float().exp()
    return (first - second + part.lambda_init).type_as(like)


def difference(q: Tensor, k: Tensor, bias: Tensor | None, part: Any) -> Tensor:
    """softmax(q₁·k₁ᵀ/√d) - λ·softmax(q₂·k₂ᵀ/√d): (B, H, T, T), rows sum to 1 - λ."""
    first, second = attention_weights(q[:, ::2], k[:, ::2], bias), attention_weights(q[:, 1::2], k[:, 1::2], bias)
    return first - share(part, q) * second


def difference_attended(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, part: Any) -> Tensor:
    """The values mixed by `difference`, without making it: (B, H, T, d)."""
    return attend(q[:, ::2], k[:, ::2], v, bias) - share(part, q) * attend(q[:, 1::2], k[:, 1::2], v, bias)


def damped(mixed: Tensor, part: Any) -> Tensor:
    """Mixed values after the norm of each head and its damping: (B, H, T, d) -> same."""
    return part.sub_norm(mixed) * (1 - part.lambda_init)


def block_of_branches(block: Any, name: str) -> Block | None:
    """Our block over one of timm's of these kinds; None for a block of another kind."""
    if type(block) in (vision_transformer.ParallelScalingBlock, vision_transformer.DiffParallelScalingBlock):
        return ParallelBlock(block)
    if type(block) is vision_transformer.ParallelThingsBlock:
        return ManyBranchesBlock(block, name)
    if type(block) is vision_transformer.Block and type(block.attn) is layers.DiffAttention:
        return DifferentialBlock(block, name)
    return None
