"""Attention kernels against a plain loop over heads, queries and keys."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import QKV
from diagnostics.registry import UnknownName
from segment.encoders.kernels import PAIRS, check_kernel, kernel_mix, kernel_terms, kernel_weights

TOKENS, WIDTH = 5, 3
# Every design of attention that SFP (supplement, Table 1) and SC-CLIP (Table 8) compare, and MaskCLIP's.
PUBLISHED = ["qk", "qq", "kk", "vv", "qq+kk", "qq+vv", "kk+vv", "identity"]
COMBINED = [("qq+kk", how) for how in ("sum", "mean", "joint")] + [("qq+kk+vv", "mean"), ("qk+identity", "mean")]


@pytest.fixture
def heads() -> QKV:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 2, TOKENS, WIDTH, generator=generator) for _ in range(3))
    return QKV(q, k, v, torch.zeros(2, TOKENS, 2 * WIDTH))


def slow_weights(heads: QKV, kernel: str, combine: str, bias: Tensor | None = None, skip: int = 0) -> Tensor:
    """The matrix entry by entry: (B, H, T, T - skip)."""
    terms = kernel.split("+")
    batch, count, tokens, width = heads.q.shape
    values = torch.zeros(batch, count, tokens, tokens - skip)
    for b, h, i in torch.cartesian_prod(torch.arange(batch), torch.arange(count), torch.arange(tokens)).tolist():
        logits = []
        for term in terms:
            if term == "identity":
                row = [0.0 if i == j else -math.inf for j in range(skip, tokens)]
                if i < skip:
                    row = None  # no key is itself
            else:
                row = []
                for j in range(skip, tokens):
                    content = 0.0
                    if term != "none":
                        first, second = (getattr(heads, letter) for letter in term)
                        content = float(first[b, h, i] @ second[b, h, j]) / math.sqrt(width)
                    row.append(content + (0.0 if bias is None else float(bias[i, j - skip])))
            logits.append(row)
        if combine == "joint":
            logits = [[sum(entries) / len(terms) for entries in zip(*logits, strict=True)]]
        for row in logits:
            if row is None:
                continue
            total = sum(math.exp(entry) for entry in row)
            values[b, h, i] += torch.tensor([math.exp(entry) / total for entry in row])
    return values / len(terms) if combine == "mean" else values


@pytest.mark.parametrize("kernel,combine", [(kernel, "sum") for kernel in PUBLISHED] + COMBINED)
@pytest.mark.parametrize("skip", [0, 2])
def test_the_matrix_is_that_of_a_plain_loop(heads, kernel, combine, skip):
    weights = kernel_weights(heads, kernel, combine, skip=skip)
    torch.testing.assert_close(weights, slow_weights(heads, kernel, combine, skip=skip), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel,combine", [(kernel, "sum") for kernel in PUBLISHED] + COMBINED)
def test_values_are_mixed_by_that_matrix_without_making_it(heads, kernel, combine):
    for skip in (0, 2):
        mixed = kernel_mix(heads, kernel, combine, skip=skip)[:, :, skip:]
        expected = (kernel_weights(heads, kernel, combine, skip=skip) @ heads.v[:, :, skip:])[:, :, skip:]
        torch.testing.assert_close(mixed, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel,combine", [("kk", "sum"), ("none", "sum"), ("qq+kk", "sum"), ("qq+kk", "joint")])
@pytest.mark.parametrize("skip", [0, 1])
def test_a_bias_is_added_to_the_logits_of_every_term(heads, kernel, combine, skip):
    bias = torch.randn(TOKENS, TOKENS - skip, generator=torch.Generator().manual_seed(1))
    expected = slow_weights(heads, kernel, combine, bias, skip)
    torch.testing.assert_close(
        kernel_weights(heads, kernel, combine, bias=bias, skip=skip), expected, atol=1e-6, rtol=1e-5
    )
    each = kernel_mix(heads, kernel, combine, bias=bias.expand(2, 1, -1, -1), skip=skip)
    torch.testing.assert_close(each, expected @ heads.v[:, :, skip:], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kernel", PUBLISHED)
def test_rows_sum_to_the_number_of_terms_and_their_mean_to_one(heads, kernel):
    ones = torch.ones(2, 2, TOKENS)
    torch.testing.assert_close(kernel_weights(heads, kernel).sum(dim=-1), len(kernel_terms(kernel)) * ones)
    torch.testing.assert_close(kernel_weights(heads, kernel, "mean").sum(dim=-1), ones)
    if kernel != "identity":
        torch.testing.assert_close(kernel_weights(heads, kernel, "joint").sum(dim=-1), ones)


def test_joint_puts_one_softmax_on_half_of_the_sum_of_two_logits(heads):
    # SFP, Eq 6 with λ = 1/2, written with matrices.
    logits = (heads.q @ heads.q.mT + heads.k @ heads.k.mT) / math.sqrt(WIDTH)
    torch.testing.assert_close(kernel_weights(heads, "qq+kk", "joint"), (0.5 * logits).softmax(dim=-1))


def test_one_term_is_the_same_however_terms_are_combined(heads):
    first, *others = (kernel_mix(heads, "kk", how) for how in ("sum", "mean", "joint"))
    assert all(torch.equal(first, other) for other in others)


def test_identity_hands_on_every_tokens_value_even_of_those_that_are_no_keys(heads):
    for skip in (0, 1):
        assert torch.equal(kernel_mix(heads, "identity", skip=skip), heads.v)
    assert kernel_weights(heads, "identity", skip=1)[:, :, 0].count_nonzero() == 0


def test_tokens_that_are_no_keys_have_no_part_in_what_others_get(heads):
    v, k = heads.v.clone(), heads.k.clone()
    v[:, :, 0], k[:, :, 0] = 1e6, 1e3
    for kernel in ("kk", "qk", "vv"):
        mixed = kernel_mix(heads._replace(v=v, k=k), kernel, skip=1)
        assert torch.equal(mixed[:, :, 1:], kernel_mix(heads, kernel, skip=1)[:, :, 1:])


def test_other_values_than_those_that_make_the_logits_can_be_mixed(heads):
    values = torch.randn(2, 2, TOKENS, 7, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(kernel_mix(heads, "vv+qk", values=values), kernel_weights(heads, "vv+qk") @ values)


def test_every_softmax_is_fused(heads, monkeypatch):
    stock, calls = F.scaled_dot_product_attention, []

    def counted(*args, **settings):
        calls.append(args[0].shape)
        return stock(*args, **settings)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    monkeypatch.setattr(Tensor, "softmax", None)
    for kernel in PUBLISHED:
        kernel_mix(heads, kernel)
    assert len(calls) == sum(term in PAIRS for kernel in PUBLISHED for term in kernel.split("+"))


def test_inputs_stay_as_they_are(heads):
    before = [part.clone() for part in heads[:4]]
    for kernel, combine in COMBINED:
        kernel_mix(heads, kernel, combine)
    assert all(torch.equal(now, then) for now, then in zip(heads[:4], before, strict=True))


@pytest.fixture
def placed(heads) -> QKV:
    """Heads of a model with a rotation and a relative bias: what they were before it, and the bias."""
    generator = torch.Generator().manual_seed(4)
    q, k = (torch.randn(2, 2, TOKENS, WIDTH, generator=generator) for _ in range(2))
    return heads._replace(unrotated=(q, k), bias=torch.randn(1, 2, TOKENS, TOKENS, generator=generator))


def slow_mix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, skip: int) -> Tensor:
    logits = (q @ k.mT / WIDTH**0.5)[..., skip:]
    return (logits if bias is None else logits + bias[..., skip:]).softmax(dim=-1) @ v[:, :, skip:]


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("positions", ["kept", "dropped"])
def test_the_models_own_positions_are_in_q_k_always_and_in_q_q_and_k_k_where_they_are_kept(placed, positions, skip):
    q, k, bias = placed.q, placed.k, placed.bias
    qk = slow_mix(q, k, placed.v, bias, skip)
    if positions == "dropped":
        (q, k), bias = placed.unrotated, None
    expected = {
        "qk": qk,
        "qq": slow_mix(q, q, placed.v, bias, skip),
        "kk": slow_mix(k, k, placed.v, bias, skip),
        "vv": slow_mix(placed.v, placed.v, placed.v, None, skip),
    }
    for kernel, by_hand in expected.items():
        torch.testing.assert_close(kernel_mix(placed, kernel, positions=positions, skip=skip), by_hand)
    both = kernel_mix(placed, "qk+kk", positions=positions, skip=skip)
    torch.testing.assert_close(both, expected["qk"] + expected["kk"])


@pytest.mark.parametrize("positions", ["kept", "dropped"])
def test_one_softmax_for_several_terms_has_the_mean_of_their_biases(placed, positions):
    plain = placed if positions == "kept" else placed.without_positions()
    q, extra = plain.q, torch.randn(TOKENS, TOKENS, generator=torch.Generator().manual_seed(5))
    logits = (q @ q.mT + placed.v @ placed.v.mT) / 2 / WIDTH**0.5 + extra
    if plain.bias is not None:
        logits = logits + plain.bias / 2
    expected = logits.softmax(dim=-1) @ placed.v
    ours = kernel_mix(placed, "qq+vv", "joint", positions=positions, bias=extra)
    torch.testing.assert_close(ours, expected)
    matrix = kernel_weights(placed, "qq+vv", "joint", positions=positions, bias=extra)
    torch.testing.assert_close(matrix @ placed.v, expected)


def test_unknown_names_and_a_joint_identity_are_refused():
    with pytest.raises(
        UnknownName, match=r"no attention kernel `qx`. .* Known: aligned, identity, kk, none, qk, qq, vv"
    ):
        kernel_terms("qq+qx")
    with pytest.raises(UnknownName, match=r"no way to combine kernels `product`"):
        check_kernel("qq", "product")
    with pytest.raises(ValueError, match=r"`identity` has no logits to join.*combine=sum"):
        check_kernel("identity+qq", "joint")
