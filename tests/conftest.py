"""What most tests start from: the tiny models and seeded pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diagnostics.backbones import Backbone, load_backbone
from diagnostics.layout import Layout

# On tensors this small, threads cost more in waiting for each other than they save; and tests run side by side.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """A seeded random CLIP: 12 blocks, width 48, 2 heads, patch 16, native 64 x 64, class token, text tower."""
    return load_backbone("tiny")


@pytest.fixture
def images() -> Tensor:
    """Two normalised pictures of 64 rows and 96 columns: (2, 3, 64, 96), a 4 x 6 grid of the tiny models."""
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def layout(tiny: Backbone, images: Tensor) -> Layout:
    """Where the tokens of `images` sit in `tiny`."""
    return tiny.layout(images)
