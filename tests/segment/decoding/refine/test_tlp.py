"""Label propagation against a dense solver and loops over cells."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from segment.decoding.merge import Merged, stretch_weights
from segment.decoding.refine import REFINERS, Canvas
from segment.decoding.refine.tlp import Tlp, agreement, word_affinity
from segment.method import TextFeatures
from segment.segmenter import Segmenter

WORDS = ("a", "b", "c")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def text() -> TextFeatures:
    features = F.normalize(random(4, 5, seed=2) + 0.5, dim=-1)
    return TextFeatures(features=features, owners=torch.tensor([0, 1, 1, 2]), names=WORDS)


def maps_of(scores: Tensor, owners: Tensor, scored: Tensor | None = None) -> Merged:
    """Scores (Q, H, W) as they are."""
    _, height, width = scores.shape
    return Merged(
        maps=scores,
        vertical=stretch_weights(height, height),
        horizontal=stretch_weights(width, width),
        owners=owners,
        scored=torch.ones(height, width, dtype=torch.bool) if scored is None else scored,
    )


def canvas_of(shown: Tensor, text: TextFeatures | None) -> Canvas:
    height, width = shown.shape[1:]
    return Canvas(image=Image.new("RGB", (width, height)), shown_by=lambda: shown, name="a", text=text)


def slow(scores: Tensor, image: Tensor, near: np.ndarray, *, printed: bool) -> tuple[np.ndarray, np.ndarray]:
    """The system of one image, cell by cell: its matrix (N, N) and C (N), with Python's own numbers."""
    count, rows, cols = scores.shape
    p = scores.double().softmax(dim=0).numpy()
    gray = sum(weight * image[channel].double().numpy() for channel, weight in enumerate((0.299, 0.587, 0.114)))

    def same(first: tuple[int, int], second: tuple[int, int]) -> float:
        total = 0.0
        for word in range(count):
            for other in range(count):
                if printed or word == other:
                    total += near[word, other] * p[(word, *first)] * p[(other, *second)]
        return min(max(total, 0.0), 1.0)

    cells = [(row, col) for row in range(rows) for col in range(cols)]
    matrix = np.zeros((rows * cols, rows * cols))
    confidence = np.zeros(rows * cols)
    for number, cell in enumerate(cells):
        confidence[number] = max(p[(slice(None), *cell)].max(), 0.05) ** 2 * (1 + same(cell, cell))
        matrix[number, number] += confidence[number]
    for down, across in ((0, 1), (1, 0)):
        pairs = [(a, (a[0] + down, a[1] + across)) for a in cells if a[0] + down < rows and a[1] + across < cols]
        steps = [abs(gray[b] - gray[a]) for a, b in pairs]
        mean = sum(steps) / len(steps) + 1e-6
        for (a, b), step in zip(pairs, steps, strict=True):
            weight = min(math.exp(-5 * step / mean) * (1 + same(a, b)), 1.0)
            i, j = cells.index(a), cells.index(b)
            matrix[i, i] += weight
            matrix[j, j] += weight
            matrix[i, j] -= weight
            matrix[j, i] -= weight
    return matrix, confidence


@pytest.mark.parametrize("affinity", ["released", "printed"])
def test_many_steps_solve_the_system_of_the_cells(text, affinity):
    scores, image = 0.3 * random(4, 5, 7), random(3, 5, 7, seed=1)
    near = word_affinity(text.features).double().numpy()
    matrix, confidence = slow(scores, image, near, printed=affinity == "printed")
    expected = np.linalg.solve(matrix, confidence[:, None] * scores.flatten(1).T.double().numpy())
    part = Tlp(iterations=300, affinity=affinity)
    result = part.scores(maps_of(scores, text.owners), canvas_of(image, text)).whole()
    assert np.allclose(result.flatten(1).T, expected, atol=1e-5)


def test_few_steps_are_those_of_one_system_for_all_maps(text):
    # One step length for all maps: conjugate gradients on the block-diagonal system of all of them.
    scores, image = 0.3 * random(4, 4, 6), random(3, 4, 6, seed=1)
    matrix, confidence = slow(scores, image, word_affinity(text.features).double().numpy(), printed=False)
    block = np.kron(np.eye(4), matrix)
    x = scores.flatten().double().numpy()
    residual = np.tile(confidence, 4) * x - block @ x
    direction = residual.copy()
    for _ in range(3):
        length = residual @ residual / (direction @ block @ direction)
        x = x + length * direction
        fresh = residual - length * block @ direction
        direction = fresh + (fresh @ fresh) / (residual @ residual) * direction
        residual = fresh
    result = Tlp(iterations=3).scores(maps_of(scores, text.owners), canvas_of(image, text)).whole()
    assert np.allclose(result.flatten(), x, atol=1e-5)


def test_words_near_each_other_agree_only_as_printed(text):
    near = word_affinity(text.features)
    first, second = torch.eye(4)[0][:, None, None], torch.eye(4)[1][:, None, None]
    assert float(agreement(first, second, near, "released")) == 0
    assert float(agreement(first, second, near, "printed")) == pytest.approx(float(near[0, 1]))
    assert float(agreement(first, first, near, "released")) == pytest.approx(float(near[0, 0]))


def test_rows_of_the_affinity_are_softmaxes_with_ten_more_on_the_diagonal(text):
    near = word_affinity(text.features)
    cosines = text.features @ text.features.T
    for row in range(4):
        weights = [math.exp(float(cosine) / 0.5) for cosine in cosines[row]]
        shares = [weight / sum(weights) + (10 if row == col else 0) for col, weight in enumerate(weights)]
        assert near[row].tolist() == pytest.approx([share / (11 + 1e-6) for share in shares], abs=1e-6)


def test_a_coarser_grid_pools_whole_cells_and_stretches_over_the_whole_side(text):
    scores, image = 0.3 * random(4, 23, 33), random(3, 23, 33, seed=1)
    result = Tlp(grid=8, iterations=300).scores(maps_of(scores, text.owners), canvas_of(image, text)).whole()
    # Sides of 23 and 33 in steps of 3 and 4: 7 x 8 cells, the rest left out.
    pooled, colors = (
        torch.stack([m[:, 3 * r : 3 * r + 3, 4 * c : 4 * c + 4].mean(dim=(1, 2)) for r in range(7) for c in range(8)])
        for m in (scores, image)
    )
    pooled, colors = pooled.T.unflatten(1, (7, 8)), colors.T.unflatten(1, (7, 8))
    matrix, confidence = slow(pooled, colors, word_affinity(text.features).double().numpy(), printed=False)
    solved = np.linalg.solve(matrix, confidence[:, None] * pooled.flatten(1).T.double().numpy())
    expected = F.interpolate(torch.from_numpy(solved.T).reshape(1, 4, 7, 8), size=(23, 33), mode="bilinear")[0]
    assert torch.allclose(result.double(), expected, atol=1e-5)


def test_flat_scores_stay_and_no_step_changes_nothing(text):
    flat, image = torch.full((4, 6, 9), 0.2), random(3, 6, 9)
    for part in (Tlp(), Tlp(iterations=0)):
        assert torch.allclose(part.scores(maps_of(flat, text.owners), canvas_of(image, text)).whole(), flat, atol=1e-6)


def test_cells_that_no_window_looked_at_say_nothing(text):
    scores, image = 0.3 * random(4, 6, 9), torch.zeros(3, 6, 9)
    scored = torch.ones(6, 9, dtype=torch.bool)
    scored[:, 5:] = False
    other = scores.clone()
    other[:, :, 5:] = 0.1  # what stands there may change the links, but has no weight of its own
    results = [
        Tlp(iterations=300).scores(maps_of(maps, text.owners, scored), canvas_of(image, text)).whole()
        for maps in (scores, other)
    ]
    # All links are 1 at least where the image is flat, so only the weights of the cells could tell the two apart.
    assert torch.allclose(results[0], results[1], atol=1e-4)


def test_scores_by_class_take_the_mean_of_the_classes_words(text):
    scores, image = 0.3 * random(3, 6, 9), random(3, 6, 9, seed=1)
    means = F.normalize(torch.stack([text.features[text.owners == number].mean(dim=0) for number in range(3)]), dim=-1)
    alone = TextFeatures(features=means, owners=torch.arange(3), names=WORDS)
    by_class = Tlp(affinity="printed").scores(maps_of(scores, torch.arange(3)), canvas_of(image, text)).whole()
    same = Tlp(affinity="printed").scores(maps_of(scores, torch.arange(3)), canvas_of(image, alone)).whole()
    assert torch.allclose(by_class, same, atol=1e-6)


def test_a_segmenter_hands_over_its_words(tiny, text):
    features = F.normalize(random(4, tiny.project(torch.zeros(1, 1, tiny.width)).shape[-1]), dim=-1)
    words = replace(text, features=features)
    image = (random(70, 90, 3) * 40 + 128).clamp(0, 255).byte().numpy()
    plain, refined = (
        Segmenter(tiny, "clearclip", words, refine=refine).scores(image)[0] for refine in ("none", "tlp:grid=20")
    )
    assert refined.shape == plain.shape
    assert not torch.allclose(plain, refined, atol=1e-4)


def test_it_is_refused_without_words_and_with_settings_without_meaning(text):
    with pytest.raises(ValueError, match="reads the words"):
        Tlp().scores(maps_of(random(4, 6, 9), text.owners), canvas_of(random(3, 6, 9), None))
    for setting in ("grid=0", "iterations=-1", "affinity=full"):
        with pytest.raises(ValueError, match=setting.partition("=")[0]):
            REFINERS.build(f"tlp:{setting}")
