"""Images in which some models have outliers, and a forward pass of one image for plain code to look at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from diagnostics.backbones.base import Backbone
from diagnostics.images import normalize, to_tensor
from diagnostics.taps import Recorder, Recording


@pytest.fixture(scope="session")
def half_plain() -> list[np.ndarray]:
    """Five images, plain on the left and noise on the right: three of 64 x 96 pixels, two of 80 x 48."""
    generator = np.random.default_rng(0)
    images = []
    for rows, cols in [(64, 96), (80, 48), (64, 96), (80, 48), (64, 96)]:
        image = np.broadcast_to(generator.integers(0, 255, (1, 1, 3)), (rows, cols, 3)).copy()
        image[:, cols // 2 :] = generator.integers(0, 255, (rows, cols - cols // 2, 3))
        images.append(image.astype(np.uint8))
    return images


@pytest.fixture(scope="session")
def recorded() -> Callable[..., Recording]:
    """A forward pass of one image in its own size, recorded whole: recorded(backbone, image)."""

    def record(backbone: Backbone, image: np.ndarray) -> Recording:
        pixels = normalize(to_tensor(Image.fromarray(image)), backbone.mean, backbone.std)[None]
        recorder = Recorder("block_out", "query", "key", "attention")
        with torch.no_grad():
            backbone.trunk(pixels, tap=recorder)
        return recorder.recording

    return record
