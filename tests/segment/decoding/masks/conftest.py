"""Encodings made by hand, for mask sources."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diagnostics.layout import Grid, Layout, Padding
from segment.method import Encoding


@pytest.fixture
def make_encoding() -> Callable[..., Encoding]:
    def make(grid: tuple[int, int], **extras: Tensor) -> Encoding:
        batch = next(iter(extras.values())).shape[0]
        layout = Layout(1, Grid(*grid))
        patches = extras.pop("patches", None)
        if patches is None:
            patches = torch.randn(batch, layout.count, 8, generator=torch.Generator().manual_seed(0))
        return Encoding(
            patches=patches, class_token=None, layout=layout, padding=Padding(0, 0, 0, 0), extras=dict(extras)
        )

    return make


@pytest.fixture
def halves() -> Callable[[int, int], Tensor]:
    """An affinity (1, N, N) of 1 within the left half of a grid and within the right one, and 0 between them."""

    def make(rows: int, cols: int) -> Tensor:
        left = (torch.arange(rows * cols) % cols) < cols // 2
        return (left[:, None] == left).float()[None]

    return make
