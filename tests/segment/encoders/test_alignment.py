"""PEARL's comparison of queries with rotated keys, against scipy and loops."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes, polar
from torch import Tensor

from diagnostics import load_backbone
from diagnostics.backbones.base import QKV
from segment.encoders.aligned_keys import AlignedKeys
from segment.encoders.alignment import aligned, aligned_mix, exact_rotation, polar_rotation
from segment.encoders.encode_many import encode_many
from segment.encoders.kernels import kernel_mix, kernel_weights
from segment.methods import METHODS

TOKENS, WIDTH, PREFIX = 7, 4, 2


@pytest.fixture
def heads() -> QKV:
    generator = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 3, TOKENS, WIDTH, generator=generator) for _ in range(3))
    return QKV(q, k + 0.4, v, torch.zeros(2, TOKENS, 3 * WIDTH))


def slow_logits(q: np.ndarray, k: np.ndarray, alpha: float, turn) -> np.ndarray:
    """The logits of one head, token by token."""
    lengths = [0.0 if token < PREFIX else math.sqrt(sum(x * x for x in q[token])) for token in range(TOKENS)]
    weights = [length / (sum(lengths) + 1e-6) for length in lengths]
    query_mean = sum(weight * row for weight, row in zip(weights, q, strict=True))
    key_mean = sum(weight * row for weight, row in zip(weights, k, strict=True))
    rotation = turn(k - key_mean, q - query_mean)
    logits = np.zeros((TOKENS, TOKENS))
    for i in range(TOKENS):
        for j in range(TOKENS):
            logits[i, j] = q[i] @ (k[j] @ rotation) + alpha * (k[i] - key_mean) @ (k[j] - key_mean)
    return logits / math.sqrt(WIDTH)


@pytest.mark.parametrize("alpha", [0.0, 0.08, 2.0])
def test_exact_logits_are_those_of_scipys_procrustes(heads, alpha):
    sides = aligned(heads, PREFIX, alpha=alpha, rotation="svd")
    logits = sides.first @ sides.second.mT / math.sqrt(WIDTH)
    for image in range(2):
        for head in range(3):
            q, k = (part[image, head].double().numpy() for part in (heads.q, heads.k))
            expected = slow_logits(q, k, alpha, lambda keys, queries: orthogonal_procrustes(keys, queries)[0])
            assert np.allclose(logits[image, head], expected, atol=1e-5)


def test_without_rotation_keys_stay(heads):
    sides = aligned(heads, PREFIX, alpha=0, rotation="none")
    assert torch.equal(sides.first, heads.q)
    assert torch.equal(sides.second, heads.k)


def slow_polar(product: np.ndarray, steps: int) -> np.ndarray:
    """The coupled iteration in Python's double precision."""
    square = product.T @ product
    size = math.sqrt((square**2).sum())
    identity = np.eye(len(product))
    y, z = square / size + 1e-6 * identity, identity
    for _ in range(steps):
        step = (3 * identity - z @ y) / 2
        y, z = y @ step, step @ z
    return product @ z / math.sqrt(size)


@pytest.mark.parametrize("steps", [0, 1, 5, 60])
def test_polar_steps_are_those_of_a_matrix_alone(steps):
    product = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    rotation = polar_rotation(product, steps)
    for image in range(2):
        for head in range(3):
            assert np.allclose(
                rotation[image, head], slow_polar(product[image, head].double().numpy(), steps), atol=1e-4
            )


def test_many_polar_steps_come_to_the_polar_factor_and_five_do_not():
    product = torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    product = product + 3 * torch.eye(6)
    expected = torch.from_numpy(polar(product.numpy())[0])
    assert torch.allclose(exact_rotation(product), expected, atol=1e-9)
    assert (polar_rotation(product, 60) - expected).abs().max() < 1e-3
    assert (polar_rotation(product, 3) - expected).abs().max() > 1e-2


def test_a_product_of_zeros_makes_no_nan():
    assert torch.equal(polar_rotation(torch.zeros(2, 4, 4)), torch.zeros(2, 4, 4))


def test_values_are_mixed_by_the_softmax_of_the_logits_of_all_tokens(heads):
    sides = aligned(heads, PREFIX, alpha=0.3)
    weights = (sides.first @ sides.second.mT / math.sqrt(WIDTH)).softmax(dim=-1)
    assert torch.allclose(aligned_mix(heads, PREFIX, alpha=0.3), weights @ heads.v, atol=1e-5)


def test_the_kernel_is_the_released_one_and_joins_others(heads):
    assert torch.allclose(kernel_mix(heads, "aligned", prefix=PREFIX), aligned_mix(heads, PREFIX), atol=1e-6)
    summed = kernel_mix(heads, "aligned", prefix=PREFIX) + kernel_mix(heads, "kk")
    assert torch.allclose(kernel_mix(heads, "aligned+kk", prefix=PREFIX), summed, atol=1e-5)
    joint = kernel_weights(heads, "aligned+kk", "joint", prefix=PREFIX)
    sides = aligned(heads, PREFIX)
    logits = (sides.first @ sides.second.mT + heads.k @ heads.k.mT) / 2 / math.sqrt(WIDTH)
    assert torch.allclose(joint, logits.softmax(dim=-1), atol=1e-5)
    # Which tokens are patches matters: the prefix has no weight in the means.
    assert not torch.allclose(
        kernel_mix(heads, "aligned", prefix=0), kernel_mix(heads, "aligned", prefix=PREFIX), atol=1e-3
    )


@pytest.mark.parametrize("name", ["clearclip", "gem", "sfp-paper"])
def test_any_method_with_a_kernel_takes_it(tiny, images, name):
    (plain, other) = encode_many(tiny, images, [name, f"{name}:kernel=aligned,combine=sum"])
    assert other.patches.isfinite().all()
    assert not torch.allclose(plain.patches, other.patches, atol=1e-3)


def test_the_last_block_kernel_equals_the_method():
    backbone = load_backbone("tiny:registers=2")
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    (pearl, kernel) = encode_many(backbone, images, ["pearl", "clearclip:kernel=aligned"])
    assert torch.allclose(pearl.patches, kernel.patches, atol=1e-5)


def test_residual_and_ffn_can_be_kept(tiny, images):
    def patches(spec: str) -> Tensor:
        return encode_many(tiny, images, [spec])[0].patches

    expected = patches("clearclip:kernel=aligned,residual=true,ffn=true")
    assert torch.allclose(patches("pearl:residual=true,ffn=true"), expected, atol=1e-5)


@pytest.mark.parametrize("setting", ["alpha=-1", "alpha=nan", "steps=-1", "rotation=qr"])
def test_settings_without_meaning_are_refused(setting):
    with pytest.raises(ValueError, match=setting.partition("=")[0]):
        METHODS.build(f"pearl:{setting}")


def test_printed_is_exact_and_without_the_keys_own_likeness():
    released, printed = METHODS["pearl"].encoder, METHODS["pearl-paper"].encoder
    assert isinstance(released, AlignedKeys)
    assert printed == replace(released, alpha=0.0, rotation="svd")
