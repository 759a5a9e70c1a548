"""An image and what is inside it, drawn from a seed instead of from a network."""

from __future__ import annotations

import numpy as np
import pytest

from diagnostics.layout import Grid, Layout
from diagnostics.studies.image_report import ImageReport, Scored
from figures.view import PageImage

CLASSES = ("zebra", "grass", "sky")


def drawn(
    name: str = "a.jpg",
    *,
    grid: tuple[int, int] = (3, 4),
    prefix: int = 1,
    depth: int = 4,
    heads: int | None = 2,
    inset: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
    seed: int = 0,
) -> ImageReport:
    """An Inside of consistent shapes: attention rows sum to 1, and patch 0 has a large norm from layer 3 on."""
    generator = np.random.default_rng(seed)
    layout = Layout(prefix, Grid(*grid), 0 if prefix else None)
    tokens, count = layout.tokens, layout.count
    logits = generator.normal(size=(depth, heads or 1, tokens, tokens)) * 2
    attention = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    patches = generator.normal(size=(depth, count, 8)).astype(np.float32)
    unit = patches / np.linalg.norm(patches, axis=-1, keepdims=True)
    norms = generator.uniform(10, 20, (depth + 1, tokens)).astype(np.float32)
    norms[3:, prefix] = 400
    scores = norms[1:, prefix:] / np.median(norms[1:, prefix:], axis=1, keepdims=True)
    top = np.zeros((depth, count), bool)
    top[:, :2] = True
    similarity = (unit @ unit.swapaxes(1, 2)).astype(np.float16)
    return ImageReport(
        name=name,
        image=generator.integers(0, 256, (30, 40, 3), dtype=np.uint8),
        inset=inset,
        aspect=grid[1] / grid[0],
        layout=layout,
        layers=tuple(range(1, depth + 1)),
        norms=norms,
        attention=attention.astype(np.float16) if heads else None,
        mean_attention=attention.mean(1).astype(np.float16),
        similarity=similarity,
        components=patches[..., :3],
        scored={
            "relative-norm": Scored(scores=scores, marked=scores > 3, threshold=3.0, published="our choice"),
            "norm-topk:count=2": Scored(scores=scores, marked=top, threshold=None, published="a number"),
        },
        purifier="neighbor-mean",
        purified_by="relative-norm",
        purified_norms=np.minimum(norms[1:, prefix:], 20),
        purified_similarity=similarity,
        purified_components=patches[..., :3] / 2,
    )


def with_labels(inside: ImageReport) -> PageImage:
    """The same with two label maps: columns of three classes, and one class with a strip where no window looked."""
    columns = np.repeat(np.arange(40)[None] * 3 // 40, 30, axis=0)
    plain = np.full((30, 40), 1)
    plain[:, :8] = -1
    return PageImage(inside=inside, labels={"clip": columns, "sc-clip": plain}, classes=CLASSES)


@pytest.fixture
def inside():
    return drawn()


@pytest.fixture
def page_image():
    return with_labels(drawn())


@pytest.fixture
def images():
    """Two images of other shapes, the second without a class token."""
    return [with_labels(drawn()), with_labels(drawn("b.jpg", grid=(5, 2), prefix=0, seed=1))]


@pytest.fixture
def draw():
    return drawn
