"""Scores of a sitting equal a plain loop over images."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from segment import Segmenter, text_features
from segment.datasets.shapes import Shapes
from segment.evaluation.score_methods import score_methods


def test_scores_equal_a_loop_with_scikit_learn(tiny):
    scenes = Shapes(scenes=5, height=64, width=96)
    scores = score_methods(tiny, scenes, ["clip", "clearclip"], limit=3)
    assert scores.images == 3
    text = text_features(tiny, list(scenes.names))
    expected = np.zeros((len(scenes.names),) * 2, int)
    for number in range(3):
        sample = scenes[number]
        (one,) = Segmenter(tiny, "clearclip", text, windows="whole", size="native")([sample.image])
        expected += confusion_matrix(sample.labels.ravel(), one.labels.ravel(), labels=range(len(scenes.names)))
    assert np.array_equal(scores.matrices["clearclip"], expected)
    table = scores.table()
    assert list(table.index) == ["clip", "clearclip"]
    assert table.loc["clearclip", "pAcc"] == pytest.approx(np.trace(expected) / expected.sum())
    assert (table["low"] <= table["high"]).all()
