"""Converted label maps: the same labels as on the fly, whole or not there, taken up again after a stop."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segment.datasets import open_dataset
from segment.datasets.prepare import prepare

FORMS = {
    "coco-object": ("coco-object", "annotations/val2017/000000000139_instanceTrainIds.png"),
    "coco-stuff": ("coco-stuff", "annotations/val2017/000000000139_labelTrainIds.png"),
    "cityscapes": ("cityscapes", "gtFine/val/frankfurt/frankfurt_000000_000019_gtFine_labelTrainIds.png"),
    "context60": ("context459", "SegmentationClassContext/2008_000002.png"),
}


@pytest.mark.parametrize("name", FORMS)
def test_converted_maps_hold_the_labels_that_were_made_on_the_fly(name, miniature, tmp_path):
    form, first = FORMS[name]
    root, out = miniature(form).root, tmp_path / "out"
    before = list(open_dataset(name, root))
    done = prepare(name, root, out)
    assert (done.written, done.existing, done.left_out, done.count) == (3, 0, {}, 3)
    stored = np.array(Image.open(out / first))
    assert stored.dtype == np.uint8
    assert np.array_equal(stored, before[0].labels)
    converted = open_dataset(name, out)
    assert converted.listing.pairs[0].mask == str(out / first)
    for made, other in zip(before, converted, strict=True):
        assert made.name == other.name
        assert np.array_equal(made.image, other.image)
        assert np.array_equal(made.labels, other.labels)


def test_the_root_itself_may_take_the_converted_maps(miniature):
    root = miniature("coco-object").root
    before = [sample.labels.tolist() for sample in open_dataset("coco-object", root)]
    assert prepare("coco-object", root, root).written == 3
    data = open_dataset("coco-object", root)
    assert all(pair.mask.endswith("_instanceTrainIds.png") for pair in data.listing.pairs)
    assert [sample.labels.tolist() for sample in data] == before
    assert (prepare("coco-object", root, root).written, prepare("coco-object", root, root).existing) == (0, 3)


def test_a_second_run_writes_only_what_is_missing(miniature, tmp_path):
    root, out = miniature("cityscapes").root, tmp_path / "out"
    prepare("cityscapes", root, out)
    files = sorted(path for path in (out / "gtFine").rglob("*.png"))
    files[1].unlink()
    times = [path.stat().st_mtime_ns for path in (files[0], files[2])]
    done = prepare("cityscapes", root, out)
    assert (done.written, done.existing) == (1, 2)
    assert [path.stat().st_mtime_ns for path in (files[0], files[2])] == times


def test_a_run_that_is_killed_leaves_no_half_written_map(miniature, tmp_path, monkeypatch):
    root, out = miniature("cityscapes").root, tmp_path / "out"
    original = Image.Image.save

    def save(image, file, **settings):
        original(image, file, **settings)
        file.truncate(20)
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(KeyboardInterrupt):
        prepare("cityscapes", root, out)
    assert not list((out / "gtFine").rglob("*.png"))
    monkeypatch.undo()
    assert prepare("cityscapes", root, out).written == 3


def test_a_label_map_that_can_not_be_converted_is_named_and_the_rest_goes_on(miniature, tmp_path):
    root = miniature("coco-object").root
    Image.fromarray(np.full((6, 8), 11, np.uint8)).save(root / "annotations/val2017/000000000285.png")
    done = prepare("coco-object", root, tmp_path / "out")
    assert (done.written, list(done.left_out)) == (2, ["000000000285"])
    assert "holds the values 11" in done.left_out["000000000285"]


def test_what_needs_no_preparation_is_reported(miniature, tmp_path):
    with pytest.raises(ValueError, match="`voc21` needs no preparation"):
        prepare("voc21", miniature("voc21").root, tmp_path / "out")


def test_what_is_converted_already_is_reported(miniature, tmp_path):
    root = miniature("context60").root
    with pytest.raises(ValueError, match="converted label maps already"):
        prepare("context60", root, tmp_path / "out")


def test_a_label_map_whose_source_was_corrected_is_converted_again(miniature, tmp_path):
    root, out = miniature("cityscapes").root, tmp_path / "out"
    prepare("cityscapes", root, out)
    source = sorted((root / "gtFine").rglob("*_labelIds.png"))[0]
    kept = [path.stat().st_mtime_ns for path in sorted((out / "gtFine").rglob("*.png"))[1:]]
    Image.fromarray(np.full_like(np.array(Image.open(source)), 26)).save(source)  # a car everywhere
    done = prepare("cityscapes", root, out)
    assert (done.written, done.existing) == (1, 2)
    converted = sorted((out / "gtFine").rglob("*.png"))
    assert np.unique(Image.open(converted[0])).tolist() == [13]  # the train id of a car
    assert [path.stat().st_mtime_ns for path in converted[1:]] == kept
