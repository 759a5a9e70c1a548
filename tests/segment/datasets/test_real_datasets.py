"""Real images of VOC and ADE20K, where they are at hand."""

from __future__ import annotations

import csv

import numpy as np
from PIL import Image

from segment.datasets import open_dataset
from segment.datasets.check import check
from segment.datasets.names import class_names


def test_150_images_of_voc_read_as_they_are_stored(shared):
    root = shared / "data" / "voc2012_subset"
    data = open_dataset("voc21", root)
    assert len(data) == 150
    without = open_dataset("voc20", root)
    values = set()
    for number in range(0, 150, 10):
        sample = data[number]
        stored = np.array(Image.open(root / "SegmentationClass" / f"{sample.name}.png"))
        assert np.array_equal(sample.labels, stored)
        values |= set(np.unique(stored).tolist())
        objects = without[number].labels
        assert np.array_equal(objects != 255, (stored > 0) & (stored < 255))
        assert np.array_equal(objects[objects != 255] + 1, stored[objects != 255])
    assert {0, 255} < values <= {*range(21), 255}


def test_the_only_problem_of_the_subset_is_its_size(shared):
    report = check("voc21", shared / "data" / "voc2012_subset")
    assert len(report.problems) == 1
    assert "150 images instead of the 1449" in report.problems[0]


def test_ade_images_read_with_the_classes_of_its_table(shared):
    root = shared / "data" / "ade20k_sample3"
    data = open_dataset("ade150", root)
    assert [sample.name for sample in data] == [f"ADE_val_0000000{number}" for number in (1, 2, 3)]
    stored = np.array(Image.open(root / "sampleData" / "annotations" / "ADE_val_00000001.png"))
    labels = data[0].labels
    assert np.array_equal(labels, np.where(stored == 0, 255, stored - 1.0).astype(np.uint8))
    with (root / "objectInfo150.csv").open() as file:
        rows = list(csv.DictReader(file))
    # The table has `;` between words as well as between synonyms, so a name is what its row begins with. Of television
    # it is the second synonym that mmsegmentation and the released word lists have.
    for name, row in zip(class_names("ade"), rows, strict=True):
        synonyms = row["Name"].removeprefix("television;") if name == "television receiver" else row["Name"]
        assert f"{synonyms};".startswith(f"{name.replace(' ', ';')};")
