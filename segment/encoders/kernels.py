"""Attention kernels of the last block: which of query, key and value are compared with which."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from diagnostics.backbones.base import QKV, attend
from diagnostics.registry import unknown_name

Combine = Literal["sum", "mean", "joint"]

PAIRS = ("qk", "qq", "kk", "vv")
TERMS = (*PAIRS, "identity", "none")


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
    bias: Tensor | None = None,
    skip: int = 0,
    values: Tensor | None = None,
) -> Tensor:
    """Values mixed by a kernel such as `qk`, `qq+kk` or `identity`: (B, H, T, d), without making the matrix.

    `sum` adds the softmaxes of the terms (their rows add to the number of terms), `mean` divides by it, `joint` puts
    one softmax on the mean of the logits (SFP, Eq 6: λ = 1/2 with two terms). `identity` attends to itself alone;
    `none` has no content, only the `bias`, which is added to the logits of every term and broadcasts to (B, H, T,
    T - skip). The first `skip` tokens are no keys; they still ask, and with `identity` keep their value. `values`
    (B, H, T, …) are mixed in place of the heads' own, which then only make logits.
    """
    terms = kernel_terms(kernel)
    v = heads.v if values is None else values
    kept = v[:, :, skip:]
    if bias is not None:
        bias = bias.to(v.dtype)
    if combine == "joint" and len(terms) > 1:
        first = torch.cat([_first(heads, term) for term in terms], dim=-1)
        second = torch.cat([_second(heads, term) for term in terms], dim=-1)[:, :, skip:]
        scale = heads.q.shape[-1] ** -0.5 / len(terms)
        return attend(first, second, kept, bias, scale=scale)
    mixed = [
        v if term == "identity" else attend(_first(heads, term), _second(heads, term)[:, :, skip:], kept, bias)
        for term in terms
    ]
    total = mixed[0]
    for more in mixed[1:]:
        total = total + more
    return total / len(terms) if combine == "mean" else total


def kernel_weights(
    heads: QKV, kernel: str, combine: Combine = "sum", *, bias: Tensor | None = None, skip: int = 0
) -> Tensor:
    """The matrix that `kernel_mix` does without, for looking at: (B, H, T, T - skip).

    `identity` has rows of zeros for the tokens that are no keys.
    """
    picks = torch.eye(heads.v.shape[2], dtype=heads.v.dtype, device=heads.v.device)[:, skip:]
    return kernel_mix(heads, kernel, combine, bias=bias, skip=skip, values=picks.expand(*heads.v.shape[:3], -1))


def _first(heads: QKV, term: str) -> Tensor:
    return torch.zeros_like(heads.q) if term == "none" else getattr(heads, term[0])


def _second(heads: QKV, term: str) -> Tensor:
    return torch.zeros_like(heads.k) if term == "none" else getattr(heads, term[1])
