"""A check says everything that is missing or broken, and nothing of a whole data set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from segment.datasets import check as package_check
from segment.datasets.check import SAMPLE, check


def test_a_whole_folder_has_no_problems(miniature):
    report = check("folder", miniature("folder").root)
    assert report.complete
    assert (report.images, report.opened, report.expected, report.problems) == (3, 3, None, ())


def test_only_the_count_is_wrong_with_a_miniature(miniature):
    report = check("voc21", miniature("voc21").root)
    assert (report.images, report.expected, report.opened) == (3, 1449, 3)
    assert len(report.problems) == 1
    assert "3 images instead of the 1449" in report.problems[0]
    assert any("JPEGImages/*.jpg + SegmentationClass/*.png" in note for note in report.notes)


def test_everything_that_is_wrong_is_listed_at_once(miniature):
    root = miniature("coco-stuff").root
    (root / "annotations/val2017/000000000139.png").unlink()
    (root / "images/val2017/000000000285.jpg").unlink()
    Image.fromarray(np.full((6, 8), 11, np.uint8)).save(root / "annotations/val2017/000000000632.png")
    report = check("coco-stuff", root)
    problems = "\n".join(report.problems)
    assert not report.complete
    assert "1 images without a label map; the first should be" in problems
    assert "000000000139.png" in problems
    assert "1 label maps have no image:" in problems
    assert "000000000285.png" in problems
    assert "000000000632.png: holds the values 11" in problems


def test_images_of_the_list_that_are_not_there_are_counted(miniature):
    root = miniature("voc20").root
    for name in ("2007_000033", "2007_000061"):
        (root / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg").unlink()
    problems = "\n".join(check("voc20", root).problems)
    assert "2 images of the list are not there; the first should be" in problems


def test_a_wrong_root_is_a_problem_and_not_an_error(tmp_path):
    report = check("cityscapes", tmp_path / "nowhere")
    assert not report.complete
    assert "is not a directory" in report.problems[0]


def test_a_sample_is_opened_unless_all_are_asked_for(miniature, monkeypatch):
    mini = miniature("folder")
    for number in range(SAMPLE + 10):
        mini.image(f"images/more{number:03d}.jpg")
        mini.mask(f"masks/more{number:03d}.png", f"more{number:03d}", {0})
    assert check("folder", mini.root).opened == SAMPLE
    # One broken file hides in the middle of the sample's steps; a look at all finds it.
    opened = []
    original = package_check.OnDisk.read
    monkeypatch.setattr(package_check.OnDisk, "read", lambda self, n: opened.append(n) or original(self, n))
    check("folder", mini.root)
    assert (opened[0], opened[-1], len(set(opened))) == (0, SAMPLE + 12, SAMPLE)
    hidden = next(number for number in range(SAMPLE + 13) if number not in opened)
    pair = package_check.open_dataset("folder", mini.root).listing.pairs[hidden]
    Image.fromarray(np.full((6, 8), 77, np.uint8)).save(pair.mask)
    assert check("folder", mini.root).complete
    assert not check("folder", mini.root, every=True).complete


def test_a_drawn_data_set_can_not_be_checked(tmp_path):
    with pytest.raises(ValueError, match="is drawn"):
        check("shapes", tmp_path)


def test_a_check_is_complete_only_without_problems(miniature):
    report = check("folder", miniature("folder").root)
    assert not replace(report, problems=("one",)).complete
