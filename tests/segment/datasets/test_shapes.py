"""Drawn scenes: fixed pixels, exact labels, captions that tell what shows, and streams that never meet."""

from __future__ import annotations

import hashlib
from itertools import islice

import numpy as np
import pytest

from segment.datasets import DATASETS, Dataset
from segment.datasets.shapes import (
    BACKGROUND_NAMES,
    KIND_NAMES,
    NAMES,
    VISIBLE,
    Shapes,
    caption,
    training_scene,
    training_scenes,
)


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


def test_validation_scenes_have_the_same_pixels_on_every_machine():
    data = Shapes(scenes=3)
    assert digest(*(data[number].image for number in range(3))) == "bf657fb6eb70d0d4"
    assert digest(*(data[number].labels for number in range(3))) == "99850dc0116a5acd"


def test_training_scenes_have_the_same_pixels_on_every_machine():
    assert digest(*(scene.image for scene in islice(training_scenes(), 3))) == "9d9d86cb3392ae5a"


@pytest.mark.parametrize("name", [name for name in DATASETS if name.startswith("shapes")])
def test_a_data_set_gives_images_with_labels_of_its_names(name):
    data = DATASETS.build(f"{name}:scenes=12")
    assert isinstance(data, Dataset)
    assert len(data) == 12
    samples = list(data)
    assert [sample.name for sample in samples] == [data.sample_name(number) for number in range(12)]
    assert len({sample.name for sample in samples}) == 12
    for sample in samples:
        assert sample.image.shape == (112, 112, 3)
        assert sample.image.dtype == np.uint8
        assert sample.labels.shape == (112, 112)
        assert sample.labels.max() < len(data.names)
    assert np.array_equal(data[-1].image, samples[11].image)
    with pytest.raises(IndexError, match="0…11"):
        data[12]


def test_500_scenes_are_the_validation_set():
    assert len(Shapes()) == 500


def test_backgrounds_become_one_class_and_kinds_keep_their_pixels():
    every, objects = Shapes(scenes=5), DATASETS.build("shapes-objects:scenes=5")
    assert every.background is None
    assert objects.background == 0
    assert objects.names == ("background", *KIND_NAMES)
    for whole, reduced in zip(every, objects, strict=True):
        assert np.array_equal(whole.image, reduced.image)
        for kind in KIND_NAMES:
            assert np.array_equal(whole.labels == NAMES.index(kind), reduced.labels == objects.names.index(kind))
        assert np.array_equal(reduced.labels == 0, whole.labels >= len(KIND_NAMES))


def test_the_words_of_a_scene_are_the_classes_with_enough_pixels():
    for number in range(20):
        scene = Shapes().scene(number)
        counts = np.bincount(scene.labels.ravel(), minlength=len(NAMES))
        assert {*scene.kinds, *scene.backgrounds} == {NAMES[place] for place in np.flatnonzero(counts >= VISIBLE)}


def test_a_caption_names_kinds_then_backgrounds_in_a_fixed_order():
    assert caption(["zebra", "tiger"], ["wood"]) == "a zebra and a tiger over wood"
    assert caption(["tiger", "zebra"], ["wood"]) == "a zebra and a tiger over wood"
    assert caption([], ["wood", "sky"]) == "sky and wood"
    assert caption(["leaf"], []) == "a leaf"


def test_every_class_occurs_and_scenes_have_one_to_three_kinds_over_one_or_two_backgrounds():
    scenes = [Shapes().scene(number) for number in range(60)]
    assert {name for scene in scenes for name in scene.kinds + scene.backgrounds} == set(NAMES)
    assert {len(scene.backgrounds) for scene in scenes} == {1, 2}
    assert {1, 2, 3} <= {len(scene.kinds) for scene in scenes} <= {0, 1, 2, 3}


def test_labels_are_exact_where_a_class_has_a_color_of_its_own():
    """Blue leads in the middle of water and red in the middle of strawberries; no other class is mixed in."""
    blue, red = [], []
    for number in range(60):
        scene = Shapes().scene(number)
        for name, shares, channel in (("water", blue, 2), ("strawberry", red, 0)):
            pixels = scene.image[scene.labels == NAMES.index(name)].astype(int)
            if len(pixels):
                shares.append((pixels[:, channel] > pixels[:, 2 - channel]).mean())
    assert min(blue) > 0.95
    assert min(red) > 0.95


def test_seeds_and_streams_share_no_scene():
    validation = {digest(Shapes(scenes=9)[number].image) for number in range(9)}
    other = {digest(Shapes(scenes=9, seed=1)[number].image) for number in range(9)}
    training = {digest(training_scene(number).image) for number in range(9)}
    assert len(validation | other | training) == 27


def test_some_training_scenes_are_close_ups_of_one_class():
    scenes = list(islice(training_scenes(), 100))
    alone = [scene for scene in scenes if len(np.unique(scene.labels)) == 1]
    assert 4 <= len(alone) <= 25
    assert {len(scene.kinds) + len(scene.backgrounds) for scene in alone} == {1}


def test_the_stream_can_be_entered_anywhere():
    later = list(islice(training_scenes(seed=3, start=5), 2))
    assert np.array_equal(later[1].image, training_scene(6, seed=3).image)


@pytest.mark.parametrize("height, width", [(32, 200), (224, 336), (113, 75)])
def test_other_sizes_are_drawn_whole_and_larger_ones_hold_more(height, width):
    data = Shapes(scenes=4, height=height, width=width)
    assert data[0].image.shape == (height, width, 3)
    assert data[0].labels.shape == (height, width)
    if height == 224:
        assert max(len(scene.kinds) for scene in map(data.scene, range(4))) > 3


@pytest.mark.parametrize("settings", [{"height": 8}, {"scenes": -1}, {"seed": -1}])
def test_settings_that_make_no_scene_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Shapes(**settings)


def test_kinds_and_backgrounds_are_the_names():
    assert KIND_NAMES + BACKGROUND_NAMES == NAMES
    assert len(set(NAMES)) == 16
