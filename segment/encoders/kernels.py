"""Attention kernels of the last block: which of query, key and value are compared with which."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from diagnostics.backbones.base import QKV, attend
from diagnostics.registry import unknown_name
from segment.encoders.alignment import aligned

Combine = Literal["sum", "mean", "joint"]
# Whether self-self kernels keep what the model's attention knows of positions.
KernelPositions = Literal["kept", "dropped"]

PAIRS = ("qk", "qq", "kk", "vv")
TERMS = (*PAIRS, "aligned", "identity", "none")


def kernel_terms(kernel: str) -> list[str]:
    """`qq+kk` -> ["qq", "kk"]; ValueError for a term that does not exist."""
    terms = [term.strip() for term in kernel.split("+")]
    for term in terms:
        if term not in TERMS:
            raise unknown_name("attention kernel", term, TERMS)
    return terms


def check_kernel(kernel: str, combine: str) -> None:
    """Refuses a kernel or a combination that does not exist, or that has no meaning."""
    terms = kernel_terms(kernel)
    if combine not in get_args(Combine):
        raise unknown_name("way to combine kernels", combine, get_args(Combine))
    if combine == "joint" and "identity" in terms and len(terms) > 1:
        raise ValueError(f"`identity` has no logits to join with others; got kernel `{kernel}`. Take combine=sum.")


def kernel_mix(
    heads: QKV,
    kernel: str,
    combine: Combine = "sum",
    *,
    positions: KernelPositions = "kept",
    bias: Tensor | None = None,
    skip: int = 0,
    values: Tensor | None = None,
    prefix: int = 0,
) -> Tensor:
    """Values mixed by a kernel such as `qk`, `qq+kk` or `identity`: (B, H, T, d), without making the matrix.

    `sum` adds the softmaxes of the terms (their rows add to the number of terms), `mean` divides by it, `joint` puts
    one softmax on the mean of the logits (SFP, Eq 6: λ = 1/2 with two terms). `identity` attends to itself alone;
    `aligned` is PEARL's released comparison of queries with rotated keys (segment.encoders.alignment), for which the
    first `prefix` tokens are no patches; `none` has no content, only the `bias`, which is added to the logits of every
    term and broadcasts to (B, H, T, T - skip). The first `skip` tokens are no keys; they still ask, and with `identity`
    keep their value. `values` (B, H, T, …) are mixed in place of the heads' own, which then only make logits.

    Where the model's attention knows of positions itself: `qk` always has its rotation and its relative bias. `qq`,
    `kk` and `aligned` have both too, as attention compares them, with `positions="kept"`; with `dropped` they are of
    queries and keys before the rotation, without the bias, and compare content alone, as `vv` always does. Our choice,
    both: the papers know models without rotation or bias only, where it makes no difference.
    """
    terms = kernel_terms(kernel)
    v = heads.v if values is None else values
    kept = v[:, :, skip:]
    if bias is not None:
        bias = bias.to(v.dtype)
    sources = [heads if term == "qk" or positions == "kept" else heads.without_positions() for term in terms]
    biases = [_own_bias(source, term, skip) for source, term in zip(sources, terms, strict=True)]
    sides = [
        None if term == "identity" else _sides(source, term, prefix)
        for source, term in zip(sources, terms, strict=True)
    ]
    scale = heads.q.shape[-1] ** -0.5  # that of the heads, also where the sides are wider
    if combine == "joint" and len(terms) > 1:
        first, second = (torch.cat([pair[place] for pair in sides if pair], dim=-1) for place in (0, 1))
        for more in biases:
            bias = _added(bias, None if more is None else more / len(terms))
        return attend(first, second[:, :, skip:], kept, bias, scale=scale / len(terms))
    mixed = [
        v if pair is None else attend(pair[0], pair[1][:, :, skip:], kept, _added(bias, more), scale=scale)
        for pair, more in zip(sides, biases, strict=True)
    ]
    total = mixed[0]
    for more in mixed[1:]:
        total = total + more
    return total / len(terms) if combine == "mean" else total


def kernel_weights(
    heads: QKV,
    kernel: str,
    combine: Combine = "sum",
    *,
    positions: KernelPositions = "kept",
    bias: Tensor | None = None,
    skip: int = 0,
    prefix: int = 0,
) -> Tensor:
    """The matrix that `kernel_mix` does without, for looking at: (B, H, T, T - skip).

    `identity` has rows of zeros for the tokens that are no keys.
    """
    picks = torch.eye(heads.v.shape[2], dtype=heads.v.dtype, device=heads.v.device)[:, skip:]
    picks = picks.expand(*heads.v.shape[:3], -1)
    return kernel_mix(heads, kernel, combine, positions=positions, bias=bias, skip=skip, values=picks, prefix=prefix)


def _own_bias(heads: QKV, term: str, skip: int) -> Tensor | None:
    """The model's relative bias as a term has it; values and no content know none."""
    return heads.bias[..., skip:] if heads.bias is not None and term in ("qk", "qq", "kk", "aligned") else None


def _added(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _sides(heads: QKV, term: str, prefix: int) -> tuple[Tensor, Tensor]:
    """What a term compares: two of (B, H, T, d), or wider."""
    if term == "none":
        return torch.zeros_like(heads.q), torch.zeros_like(heads.k)
    if term == "aligned":
        first, second = aligned(heads, prefix)
        return first.to(heads.v.dtype), second.to(heads.v.dtype)
    return getattr(heads, term[0]), getattr(heads, term[1])
