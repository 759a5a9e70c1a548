"""Images of a run keep their names, and each has a label map of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from diagnostics.images import parse_size
from diagnostics.images.feed import ListedImage, Loaded, in_batches, label_source, list_images
from diagnostics.images.label_maps import LabelError
from diagnostics.studies.probe import probe


@pytest.fixture
def scenes(tmp_path):
    """`one/1.png`, `one/2.png` and `two/1.png`, and a label map for each in folders of the same names."""
    for place, name in enumerate(("one/1", "one/2", "two/1")):
        for kind in ("images", "labels"):
            path = tmp_path / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((64, 64), place if kind == "labels" else 90, np.uint8)).save(path)
    return tmp_path


def listed_in(folder):
    return list_images(folder / "images", parse_size("native"), strict=True)


def test_namesakes_have_the_label_map_of_their_own_sub_folder(scenes):
    listed = listed_in(scenes)
    labels = label_source(scenes / "labels", listed)
    assert {image.name: labels(number).max() for number, image in enumerate(listed)} == {
        "one/1.png": 0, "one/2.png": 1, "two/1.png": 2,
    }  # fmt: skip


def test_a_label_map_that_two_images_would_share_is_refused_for_both(scenes):
    (scenes / "labels" / "two" / "1.png").rename(scenes / "labels" / "1.png")
    (scenes / "labels" / "one" / "1.png").unlink()
    listed = listed_in(scenes)
    labels = label_source(scenes / "labels", listed)
    for number, other in ((0, "two/1.png"), (2, "one/1.png")):
        with pytest.raises(LabelError, match=rf"would share the label map .*labels/1\.png with {other}.*sub-folders"):
            labels(number)
    assert labels(1).max() == 1


def test_a_run_says_which_images_would_share_a_label_map_and_goes_on(tiny, scenes):
    (scenes / "labels" / "two" / "1.png").rename(scenes / "labels" / "1.png")
    (scenes / "labels" / "one" / "1.png").unlink()
    settings = {"measures": ["auc"], "layers": [1], "labels": scenes / "labels"}
    with pytest.warns(UserWarning, match=r"not labeled: one/1\.png: would share"):
        dataset = probe(tiny, scenes / "images", **settings)
    assert dataset.sizes["image"] == 3
    with pytest.raises(LabelError, match="would share the label map"):
        probe(tiny, scenes / "images", strict=True, **settings)


def test_one_flat_folder_serves_images_of_different_names(scenes):
    for label in ("one/2", "two/1"):
        (scenes / "labels" / f"{label}.png").rename(scenes / "labels" / f"{label[-1]}.png")
    (scenes / "images" / "one" / "1.png").unlink()
    listed = listed_in(scenes)
    labels = label_source(scenes / "labels", listed)
    assert [labels(number).max() for number in range(2)] == [1, 2]


def test_a_image_that_has_a_name_keeps_it():
    array = np.zeros((64, 64, 3), np.uint8)
    listed = list_images([ListedImage("a after flip", array), array], parse_size("32"), strict=True)
    assert [image.name for image in listed] == ["a after flip", "image-0001"]
    assert listed[0].size == (32, 32)
    assert listed[0].original == (64, 64)


def test_one_that_does_not_fit_even_alone_is_named_with_what_to_do():
    def no_memory(some):
        raise torch.OutOfMemoryError("no memory left")

    loaded = [Loaded(number, torch.zeros(3, 8, 16), None, "") for number in range(4)]
    with pytest.raises(MemoryError, match=r"a window of 16x8 pixels .* even alone; take smaller ones\."):
        list(in_batches(loaded, 4, no_memory, what="window", advice="take smaller ones"))
