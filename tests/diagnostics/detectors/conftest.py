"""A layer as detectors see it, made from tensors instead of a network, and clouds of patches with planted outliers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diagnostics.taps import Recording


@pytest.fixture
def recording_of() -> Callable[..., Recording]:
    """`recording_of(block_out=tokens)`: layer 1 with the taps given by name."""

    def make(**taps: Tensor) -> Recording:
        return Recording(1, {(name, 1): value for name, value in taps.items()})

    return make


@pytest.fixture
def planted() -> Callable[..., tuple[Tensor, Tensor]]:
    """`planted(count, images=1)`: Gaussian patches of 14 x 14, D = 64, and where `count` near copies of one outlier
    were put, 100 spreads away. (B, 196, 64) and (B, 196) bool."""

    def make(count: int, images: int = 1) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(count)
        patches = torch.randn(images, 196, 64, generator=generator)
        mask = torch.zeros(images, 196, dtype=torch.bool)
        for number in range(images):
            places = torch.randperm(196, generator=generator)[:count]
            patches[number, places] = 100 / 8 + 0.01 * patches[number, places]
            mask[number, places] = True
        return patches, mask

    return make
