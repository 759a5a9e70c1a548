"""Scores of a sitting equal a plain loop over images."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from segment import Segmenter, text_features
from segment.datasets.base import Dataset, Sample
from segment.datasets.shapes import NAMES, Shapes
from segment.evaluation.score_methods import score_methods


def test_scores_equal_a_loop_with_scikit_learn(tiny):
    scenes = Shapes(scenes=5, height=64, width=96)
    scores = score_methods(tiny, scenes, ["clip", "clearclip"], limit=3)
    assert scores.images == 3
    text = text_features(tiny, list(scenes.names))
    expected = np.zeros((len(scenes.names),) * 2, int)
    for number in range(3):
        sample = scenes[number]
        (answer,) = Segmenter(tiny, "clearclip", text, windows="whole", size="native")([sample.image])
        expected += confusion_matrix(sample.labels.ravel(), answer.labels.ravel(), labels=range(len(scenes.names)))
    assert np.array_equal(scores.matrices["clearclip"], expected)
    table = scores.table()
    assert list(table.index) == ["clip", "clearclip"]
    assert table.loc["clearclip", "pAcc"] == pytest.approx(np.trace(expected) / expected.sum())
    assert (table["low"] <= table["high"]).all()


class Labeled(Dataset):
    """Scenes of two sizes of which some pixels have a label that is no class."""

    names, ignore, background = NAMES, 77, None

    def __init__(self) -> None:
        self.samples = []
        for number, (height, width) in enumerate([(64, 96), (96, 64), (64, 64)]):
            sample = Shapes(scenes=3, height=height, width=width)[number]
            labels = sample.labels.copy()
            labels[: 20 * number + 10, : width // 2] = 77
            self.samples.append(Sample(sample.image, labels, f"scene-{number}"))

    def __len__(self) -> int:
        return len(self.samples)

    def sample_name(self, index: int) -> str:
        return self.samples[index].name

    def read(self, index: int) -> Sample:
        return self.samples[index]


def test_pixels_of_the_ignored_label_are_not_scored(tiny):
    """Pixel by pixel over what scikit-learn counts of the others, images of two sizes."""
    dataset = Labeled()
    scores = score_methods(tiny, dataset, ["clip", "clearclip"])
    text = text_features(tiny, list(dataset.names))
    classes = len(dataset.names)
    for method in ("clip", "clearclip"):
        expected = np.zeros((classes, classes), int)
        for sample in dataset:
            (segmentation,) = Segmenter(tiny, method, text, windows="whole", size="native")([sample.image])
            kept = sample.labels != 77
            expected += confusion_matrix(sample.labels[kept], segmentation.labels[kept], labels=range(classes))
        assert np.array_equal(scores.matrices[method], expected)
        assert expected.sum() == sum((sample.labels != 77).sum() for sample in dataset.samples)
