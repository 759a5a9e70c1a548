"""PAMR against a plain loop over pixels, and what must hold for any image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import Tensor

from diagnostics.layout import Padding
from segment.decoding.merge import Merged, ScoreAccumulator
from segment.decoding.refine import REFINERS, Canvas
from segment.decoding.refine import pamr as module
from segment.decoding.refine.pamr import Pamr, pamr, pamr_weights
from segment.decoding.windows import Slide


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow(image: Tensor, maps: Tensor, iterations: int, dilations: tuple[int, ...]) -> Tensor:
    """One pixel after another, with Python's own numbers."""
    height, width = image.shape[1:]

    def at(values: Tensor, row: int, col: int) -> Tensor:
        return values[:, min(max(row, 0), height - 1), min(max(col, 0), width - 1)].double()

    around = [(down, along) for down in (-1, 0, 1) for along in (-1, 0, 1)]
    weights = {}
    for row in range(height):
        for col in range(width):
            near = [at(image, row + d * down, col + d * along) for d in dilations for down, along in around]
            spread = torch.stack(near).std(dim=0)
            logits = []
            for d in dilations:
                for down, along in around:
                    if down or along:
                        other = at(image, row + d * down, col + d * along)
                        logits.append(-((at(image, row, col) - other).abs() / (1e-8 + 0.1 * spread)).mean())
            weights[row, col] = torch.stack(logits).softmax(dim=0)
    for _ in range(iterations):
        new = maps.double().clone()
        for (row, col), shares in weights.items():
            others = [at(maps, row + d * y, col + d * x) for d in dilations for y, x in around if y or x]
            new[:, row, col] = sum(share * other for share, other in zip(shares, others, strict=True))
        maps = new
    return maps


@pytest.mark.parametrize("iterations, dilations", [(1, (1,)), (2, (1, 2)), (3, (2, 9))])
def test_it_equals_a_loop_over_pixels(iterations, dilations):
    image, maps = random(3, 7, 10), random(2, 7, 10, seed=1)
    refined = pamr(image[None], maps[None], iterations=iterations, dilations=dilations)[0]
    assert torch.allclose(refined.double(), slow(image, maps, iterations, dilations), atol=1e-5)


def test_a_batch_equals_its_images_one_by_one():
    images, maps = random(2, 3, 9, 12), random(2, 4, 9, 12, seed=1)
    refined = pamr(images, maps, iterations=2, dilations=(1, 3))
    for number in range(2):
        alone = pamr(images[number : number + 1], maps[number : number + 1], iterations=2, dilations=(1, 3))
        assert torch.allclose(refined[number], alone[0], atol=1e-6)


def test_weights_add_to_one_and_ignore_brightness_and_contrast():
    images = random(1, 3, 9, 12)
    weights = pamr_weights(images, (1, 2))
    assert weights.shape == (1, 16, 9, 12)
    assert torch.allclose(weights.sum(dim=1), torch.ones(1, 9, 12), atol=1e-6)
    assert torch.allclose(weights, pamr_weights(images * 7 + 3, (1, 2)), atol=1e-4)


def test_a_flat_image_takes_the_plain_mean_and_a_flat_map_stays():
    flat = torch.zeros(1, 3, 5, 5)
    maps = torch.zeros(1, 1, 5, 5)
    maps[0, 0, 2, 2] = 8
    refined = pamr(flat, maps, iterations=1, dilations=(1,))[0, 0]
    assert refined[2, 2] == 0  # the pixel itself has no weight
    assert torch.allclose(refined[1:4, 1:4].flatten()[[0, 1, 2, 3, 5, 6, 7, 8]], torch.ones(8))
    constant = pamr(random(1, 3, 5, 5), torch.full((1, 2, 5, 5), 0.3), iterations=5, dilations=(1, 2))
    assert torch.allclose(constant, torch.full((1, 2, 5, 5), 0.3), atol=1e-6)


def test_scores_stop_at_an_edge_of_color():
    image = torch.zeros(1, 3, 6, 12)
    image[..., 6:] = 5
    maps = torch.zeros(1, 1, 6, 12)
    maps[..., :5] = 1  # the map's border is one pixel off
    refined = pamr(image, maps, iterations=10, dilations=(1,))[0, 0]
    assert refined[:, 5].min() > 0.5
    assert refined[:, 6].max() < 0.2


def test_no_iterations_change_nothing_and_maps_of_another_size_are_stretched_with_aligned_corners():
    images, maps = random(1, 3, 9, 9), random(1, 2, 5, 5, seed=1)
    refined = pamr(images, maps, iterations=0)
    assert torch.equal(refined[..., ::2, ::2], maps)


def windows_of(queries: int) -> Merged:
    places = Slide(crop=8, stride=4).places((12, 16), (8, 8))
    gathering = ScoreAccumulator(places, (19, 26))
    for number in range(places.count):
        gathering.add(number, random(queries, 2, 2, seed=number), Padding(0, 0, 0, 0))
    return gathering.merged(torch.arange(queries))


@pytest.mark.parametrize("tile_bytes", [1, 2 * 4 * 19 * 26, 10**9])
def test_as_a_refiner_it_works_on_some_queries_at_a_time(tile_bytes, monkeypatch):
    monkeypatch.setattr(module, "TILE_BYTES", tile_bytes)
    scores, shown = windows_of(5), random(3, 12, 16)
    canvas = Canvas(image=Image.new("RGB", (26, 19)), shown_by=lambda: shown, name="a")
    refined = Pamr(iterations=2, dilations=(1, 2)).scores(scores, canvas)
    image = torch.nn.functional.interpolate(shown[None], size=(19, 26), mode="bilinear", align_corners=False)
    expected = pamr(image, scores.whole()[None], iterations=2, dilations=(1, 2))[0]
    assert torch.allclose(refined.whole(), expected, atol=1e-6)
    chosen = torch.tensor([4, 1])
    assert torch.allclose(refined.whole(chosen), expected[chosen], atol=1e-6)
    sizes = [block.values.shape[0] for block in refined.blocks()]
    assert max(sizes) <= max(1, tile_bytes // (4 * 19 * 26))
    assert sum(sizes) == 5


def test_without_iterations_the_refiner_leaves_scores_as_they_are():
    scores = windows_of(2)
    canvas = Canvas(image=Image.new("RGB", (26, 19)), shown_by=lambda: random(3, 12, 16), name="a")
    assert Pamr(iterations=0).scores(scores, canvas) is scores
    assert REFINERS.build("none").scores(scores, canvas) is scores


def test_settings_come_from_a_spec():
    assert REFINERS.build("pamr:iterations=1,dilations=1+2") == Pamr(iterations=1, dilations=(1, 2))
    assert replace(Pamr(), iterations=3).dilations == (8, 16)


@pytest.mark.parametrize("spec", ["pamr:iterations=-1", "pamr:dilations=0+1"])
def test_settings_without_meaning_are_refused(spec):
    with pytest.raises(ValueError, match=r"(iterations|dilations)`.* should be"):
        REFINERS.build(spec)


def test_images_and_maps_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="as many images"):
        pamr(random(2, 3, 5, 5), random(1, 2, 5, 5))
