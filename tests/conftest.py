"""What most tests start from: the tiny models and seeded images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diagnostics.backbones import Backbone, load_backbone
from diagnostics.layout import Layout

# On tensors this small, threads cost more in waiting for each other than they save; and tests run side by side.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Words that tests encode go into a folder of their own, not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTLIERS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """A seeded random CLIP: 12 blocks, width 48, 2 heads, patch 16, native 64 x 64, class token, text tower."""
    return load_backbone("tiny")


@pytest.fixture
def images() -> Tensor:
    """Two normalized images of 64 rows and 96 columns: (2, 3, 64, 96), a 4 x 6 grid of the tiny models."""
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def layout(tiny: Backbone, images: Tensor) -> Layout:
    """Where the tokens of `images` sit in `tiny`."""
    return tiny.layout(images)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real weights, labeled images and golden outputs, which are no part of the repository.

    Named by OUTLIERS_SHARED, or a folder `shared` beside the checkout; tests that need it are skipped without it.
    """
    beside = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("OUTLIERS_SHARED", beside))
    if not (folder / "golden").is_dir() or not (folder / "data").is_dir():
        pytest.skip(f"real weights and golden outputs are not here: {folder} has no golden/ and data/")
    return folder
