"""Images of a run keep their names, and each has a label map of its own."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diagnostics.images import ImageError, parse_size
from diagnostics.images.feed import (
    ImageSource,
    ListedImage,
    Loaded,
    Window,
    image_sources,
    in_batches,
    label_source,
    list_images,
    named,
    opened_ahead,
    readable,
    stacked,
)
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
    def no_memory(batch):
        raise torch.OutOfMemoryError("no memory left")

    loaded = [Loaded(number, torch.zeros(3, 8, 16), None, "") for number in range(4)]
    with pytest.raises(MemoryError, match=r"a window of 16x8 pixels .* even alone; take smaller ones\."):
        list(in_batches(loaded, 4, no_memory, what="window", advice="take smaller ones"))


# Sources


@pytest.fixture
def photos(tmp_path):
    """`b/2.png`, `a/1.png`, `a/3.png`, and `a/link.png`, which leads to b/2.png."""
    for name in ("b/2", "a/1", "a/3"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6, 3), int(name[-1]), np.uint8)).save(path)
    (tmp_path / "photos/a/link.png").symlink_to(tmp_path / "photos/b/2.png")
    return tmp_path / "photos"


def test_sources_come_in_the_order_given_whatever_their_kind(photos):
    array = np.zeros((4, 6, 3), np.uint8)
    entries = [array, photos / "b", ("mine", array), str(photos / "a/*.png"), Image.fromarray(array)]
    sources = list(image_sources(entries))
    assert [source.number for source in sources] == list(range(6))
    assert [source.name for source in sources] == ["image-0001", "b/2.png", "mine", "a/1.png", "a/3.png", "image-0002"]
    assert [source.path for source in sources] == [
        None, photos / "b/2.png", None, photos / "a/1.png", photos / "a/3.png", None,
    ]  # fmt: skip
    assert sources[0].image is array


def test_a_file_that_comes_twice_in_a_list_comes_once_under_the_name_it_had_first(photos):
    assert [source.name for source in image_sources([photos / "a", photos])] == ["1.png", "3.png", "link.png"]
    assert [source.name for source in image_sources([photos / "b", photos])] == ["b/2.png", "a/1.png", "a/3.png"]
    # A run that lists its images first and one that takes them as they come name and order them alike.
    for entries in (photos, [photos / "b", photos], [str(photos / "*/*.png")], [photos / "a/1.png"]):
        listed = list_images(entries, parse_size("native"), strict=True)
        assert [image.name for image in listed] == [source.name for source in image_sources(entries)]
        assert [image.source for image in listed] == [source.image for source in image_sources(entries)]


def test_an_iterator_is_read_no_further_than_asked_and_names_files_by_their_paths(photos):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield photos / "b/2.png"

    sources = image_sources(endless())
    first, second = next(sources), next(sources)
    assert taken == [0, 1]
    assert first.name == second.name == (photos / "b/2.png").as_posix()
    assert [first.number, second.number] == [0, 1]


def test_an_iterator_that_is_listed_names_its_files_like_a_list(photos):
    listed = list_images(iter([photos / "b", photos]), parse_size("native"), strict=True)
    assert [image.name for image in listed] == ["b/2.png", "a/1.png", "a/3.png"]


@pytest.mark.parametrize("nothing", [[], (), iter([])])
def test_no_image_at_all_is_an_error(nothing):
    with pytest.raises(ValueError, match="at least one image, folder or glob; got none"):
        list_images(nothing, parse_size("native"), strict=False)


# Opening and batching


def test_what_cannot_be_opened_is_left_out_with_its_reason_when_its_turn_comes():
    def opened(source):
        if source.number % 2:
            raise ImageError(source.name, f"is odd: {source.number}", "Take an even one")
        return source.number * 10

    sources = [ImageSource(number, f"n{number}", None) for number in range(5)]
    left_out = {}
    results = readable(sources, opened, left_out)
    assert next(results) == (sources[0], 0)
    assert left_out == {}
    assert [value for _, value in results] == [20, 40]
    assert left_out == {"n1": "n1: is odd: 1. Take an even one.", "n3": "n3: is odd: 3. Take an even one."}
    with pytest.raises(ImageError, match="is odd: 1"):
        list(readable(sources, opened, {}, strict=True))
    with pytest.raises(ImageError, match="is odd: 1"):
        list(readable(sources, opened, {}, errors=(OSError,)))


def test_blocks_are_opened_one_block_ahead_and_no_further():
    begun, lock = [], threading.Lock()

    def load(number):
        with lock:
            begun.append(number)
        return Loaded(number, None, None, "")

    blocks = [range(3), range(3, 5), range(5, 8), range(8, 10)]
    for place, (block, loaded) in enumerate(opened_ahead(blocks, load)):
        assert block == blocks[place]
        assert [item.number for item in loaded] == list(block)
        assert len(begun) <= block.stop + 3
    assert sorted(begun) == list(range(10))
    assert list(opened_ahead([], load)) == []


def test_a_batch_has_items_of_one_shape_and_of_several_images():
    shapes = [(8, 8), (8, 8), (8, 16), (8, 8), (8, 16)]
    windows = [Window(place, 0, torch.full((3, *shape), float(place))) for place, shape in enumerate(shapes)]
    batches = list(in_batches(windows, 2, lambda part: stacked(part).amax(dim=(1, 2, 3)).tolist()))
    assert [[window.place for window in part] for part, _ in batches] == [[0, 1], [3], [2, 4]]
    assert [values for _, values in batches] == [[0, 1], [3], [2, 4]]


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost():
    tried = []

    def work(part):
        tried.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("no memory left")
        return [window.number for window in part]

    windows = [Window(0, number, torch.zeros(3, 4, 4)) for number in range(7)]
    assert [number for _, numbers in in_batches(windows, 5, work) for number in numbers] == list(range(7))
    assert tried == [5, 2, 2, 2, 1]


def test_bytes_that_are_no_utf8_never_take_the_name_of_another_file(tmp_path):
    names = [b"bad\xff.png", b"bad%FF.png", b"bad%25FF.png", b"other%FF.png"]
    paths = [Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)) for name in names]
    by_name = named(paths)
    assert list(by_name.values()) == paths
    assert list(by_name) == ["bad%2525FF.png", "bad%FF.png", "bad%25FF.png", "other%FF.png"]
    assert list(named(paths[:1])) == ["bad%FF.png"]
