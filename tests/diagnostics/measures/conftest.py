"""A layer as measures see it, made from tensors instead of a network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.measures.base import LayerView
from diagnostics.taps import Recording


@pytest.fixture
def view_of() -> Callable[..., LayerView]:
    """`view_of(layout, block_out=tokens, labels=None)`: layer 1 with the taps given by name."""

    def make(layout: Layout, *, labels: Tensor | None = None, **taps: Tensor) -> LayerView:
        return LayerView(1, Recording(1, {(name, 1): value for name, value in taps.items()}), layout, (16, 16), labels)

    return make
