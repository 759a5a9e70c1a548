"""A threshold's cost: what its method scores there, and nothing where nothing is marked."""

from __future__ import annotations

import numpy as np
import pytest

from diagnostics import load_backbone
from segment.datasets.shapes import Shapes
from segment.evaluation.score_methods import score_methods
from segment.evaluation.threshold_cost import threshold_cost


@pytest.fixture(scope="module")
def planted():
    return load_backbone("pocket:planted")


def test_each_row_is_the_method_at_that_threshold(planted):
    world = Shapes(scenes=3)
    table = threshold_cost(planted, world, "relative-norm", [10, 1.5], method="clearclip:kernel=kk")
    assert table.index.tolist() == [1.5, 10.0, np.inf]
    specs = [
        "clearclip:kernel=kk,detector=relative-norm(threshold=1.5),purifier=neighbor-mean",
        "clearclip:kernel=kk",
    ]
    alone = score_methods(planted, world, specs).table()["mIoU"]
    assert table.loc[[1.5, np.inf], "mIoU"].tolist() == pytest.approx(alone.tolist())


def test_a_threshold_above_all_scores_marks_nothing_and_changes_nothing(planted):
    table = threshold_cost(planted, Shapes(scenes=2), "relative-norm", [1.5, 1e6])
    assert table["tokens"].tolist() == [table["tokens"].iloc[0], 0.0, 0.0]
    assert table["tokens"].iloc[0] > 0
    assert table.loc[1e6, ["mIoU", "AUC"]].tolist() == table.loc[np.inf, ["mIoU", "AUC"]].tolist()
    assert table["AUC"].between(0, 1).all()


@pytest.mark.parametrize(
    ("detector", "thresholds", "message"),
    [
        ("relative-norm", [], "at least one"),
        ("relative-norm", [np.inf], "finite numbers"),
        ("relative-norm:threshold=2", [3.0], "without a threshold"),
    ],
)
def test_what_gives_no_thresholds_is_refused(planted, detector, thresholds, message):
    with pytest.raises(ValueError, match=message):
        threshold_cost(planted, Shapes(scenes=1), detector, thresholds)
