"""What every method reaches on `pocket`, and what each detector brings back on `pocket:planted`: 50 scenes, mIoU."""

from __future__ import annotations

import numpy as np
import pytest

from diagnostics import load_backbone
from diagnostics.detectors import DETECTORS
from segment.datasets.shapes import Shapes
from segment.evaluation.score_methods import score_methods
from segment.methods import METHODS
from segment.segmenter import Segmenter
from segment.text.features import text_features

# As measured on the shipped weights; the second number is that of pocket:planted.
REACHED = {
    "clip": (0.201, 0.216),
    "maskclip": (0.672, 0.665),
    "clip-surgery": (0.850, 0.839),
    "sclip": (0.769, 0.426),
    "clearclip": (0.848, 0.720),
    "naclip": (0.792, 0.125),
    "gem": (0.365, 0.355),
    "gem-paper": (0.293, 0.283),
    "cliptrase": (0.843, 0.739),
    "cliptrase-paper": (0.236, 0.222),
    "sc-clip": (0.603, 0.573),
    "sc-clip-paper": (0.470, 0.413),
    "sfp": (0.625, 0.607),
    "sfp-paper": (0.214, 0.217),
}
# `clearclip` with the detector and neighbor-mean, each with its defaults.
PURIFIED = {
    "norm": 0.720,
    "relative-norm": 0.842,
    "norm-topk": 0.844,
    "massive": 0.723,
    "channel-peak": 0.819,
    "som": 0.605,
    "som-release": 0.736,
    "lof": 0.838,
    "lof-release": 0.844,
    "self-correlation": 0.720,
    "class-residual": 0.703,
    "received-attention": 0.682,
    "stripe": 0.650,
    "attention-rank1": 0.693,
    "register-neuron": 0.847,
    "singular-defect": 0.720,
    "mahalanobis": 0.783,
    "knn": 0.751,
    "adaptive": 0.826,
}
# Those need a second network, a library of their own, a draw, or too long for a test.
ELSEWHERE = {"proxyclip", "lavg"}, {"pyod", "random", "isolation-forest"}


def mious(spec, methods):
    return dict(score_methods(load_backbone(spec), Shapes(scenes=50), methods).table()["mIoU"])


def test_the_tables_name_parts_that_are_there():
    assert {*REACHED} | ELSEWHERE[0] <= {*METHODS}
    assert {*PURIFIED} | ELSEWHERE[1] <= {*DETECTORS}


@pytest.mark.parametrize("column, spec", [(0, "pocket"), (1, "pocket:planted")])
def test_every_method_reaches_what_it_reached(column, spec):
    expected = {name: numbers[column] for name, numbers in REACHED.items()}
    assert mious(spec, list(REACHED)) == pytest.approx(expected, abs=0.015)


def test_every_detector_brings_back_what_it_brought_back():
    specs = {f"clearclip:detector={name},purifier=neighbor-mean": number for name, number in PURIFIED.items()}
    scores = mious("pocket:planted", list(specs))
    assert scores == pytest.approx(specs, abs=0.015)
    sound, harmed = REACHED["clearclip"]
    assert max(scores.values()) >= (sound + harmed) / 2, "at least half of what planting destroyed"


def test_labels_in_bf16_are_those_of_fp32_in_ninety_nine_percent_of_the_pixels():
    data = Shapes(scenes=12)
    methods = ["clip", "sclip", "clearclip", "gem", "sc-clip", "sfp"]
    labels = []
    for precision in ("fp32", "bf16"):
        backbone = load_backbone("pocket", precision=precision)
        segmenter = Segmenter(backbone, methods, text_features(backbone, data.names), windows="whole", size="native")
        images = ((sample.name, sample.image) for sample in data)
        labels.append([[answer.labels for answer in each] for each in segmenter.many(images)])
    for number, method in enumerate(methods):
        same = [np.mean(fine[number] == coarse[number]) for fine, coarse in zip(*labels, strict=True)]
        assert np.mean(same) >= 0.99, method
