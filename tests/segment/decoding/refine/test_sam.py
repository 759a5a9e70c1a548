"""The refiner `sam`, with a stand-in that draws a mask around the points it is shown."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from segment.decoding.refine import REFINERS, Canvas
from segment.decoding.refine import sam as module

# The left 5 of 8 columns are class 4, the rest class 2; the object's true border is at 4.
LABELS = torch.full((4, 8), 4)
LABELS[:, 5:] = 2


class HalfImage:
    """Says that a class with most of its points in the left half fills that half, and else the right one."""

    def __init__(self) -> None:
        self.calls: list = []

    def __call__(self, image, prompts):
        self.calls.append((image, prompts))
        height, width = image.shape[1:]
        logits = torch.full((len(prompts.inside), height, width), -1.0)
        for number, inside in enumerate(prompts.inside):
            left = float(prompts.points[inside][:, 0].mean()) < width / 2
            logits[number, :, slice(0, width // 2) if left else slice(width // 2, width)] = 1
        return logits


@pytest.fixture
def segmenter(monkeypatch) -> HalfImage:
    stand_in = HalfImage()
    monkeypatch.setattr(module, "_loaded", lambda model, device: stand_in)
    return stand_in


def canvas() -> Canvas:
    return Canvas(image=Image.new("RGB", (8, 4), (255, 0, 0)), shown_by=lambda: torch.zeros(3, 4, 8), name="a")


def test_labels_follow_the_masks_and_keep_their_class_numbers(segmenter):
    refined = REFINERS.build("sam:points=8").labels(LABELS, canvas())
    assert refined.tolist() == [[4] * 4 + [2] * 4] * 4


def test_points_lie_on_a_grid_in_the_images_shape_and_the_image_is_given_as_it_is(segmenter):
    REFINERS.build("sam:points=4").labels(LABELS, canvas())
    image, prompts = segmenter.calls[0]
    assert prompts.points.tolist() == [[x, y] for y in (1, 3) for x in (1, 3, 5, 7)]
    assert prompts.inside.sum(dim=0).tolist() == [1] * 8
    assert image[0].min() == 1
    assert image[1:].max() == 0


def test_unscored_pixels_keep_their_label(segmenter):
    labels = LABELS.clone()
    labels[:2] = -1
    refined = REFINERS.build("sam:points=8").labels(labels, canvas())
    assert refined[:2].eq(-1).all()
    assert refined[2:].tolist() == [[4] * 4 + [2] * 4] * 2
    assert REFINERS.build("sam").labels(torch.full((4, 8), -1), canvas()).eq(-1).all()


def test_no_points_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        REFINERS.build("sam:points=0")
