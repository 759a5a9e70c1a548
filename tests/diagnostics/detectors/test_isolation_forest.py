"""The isolation forest through scikit-learn: its scores, its seed, planted outliers."""

from __future__ import annotations

import pytest
import torch
from sklearn import ensemble
from sklearn.metrics import roc_auc_score

from diagnostics.detectors.isolation_forest import IsolationForest
from diagnostics.layout import Grid, Layout

SQUARE = Layout(0, Grid(14, 14))


def test_scores_and_marks_are_those_of_scikit_learn(planted, recording_of):
    patches, _ = planted(4)
    outliers = IsolationForest(trees=20, seed=3)(recording_of(block_out=patches), SQUARE)
    forest = ensemble.IsolationForest(n_estimators=20, random_state=3).fit(patches[0].numpy())
    expected = torch.from_numpy(-forest.score_samples(patches[0].numpy())).float()
    assert torch.equal(outliers.scores[0], expected)
    assert outliers.mask[0].tolist() == (forest.predict(patches[0].numpy()) < 0).tolist()


@pytest.mark.parametrize("count", [1, 4, 10, 35])
def test_planted_outliers_score_above_all_others(count, planted, recording_of):
    patches, truth = planted(count)
    outliers = IsolationForest(trees=30)(recording_of(block_out=patches), SQUARE)
    assert roc_auc_score(truth[0], outliers.scores[0]) == 1
    assert outliers.mask[truth].all()


def test_without_outliers_few_are_marked(planted, recording_of):
    patches, _ = planted(0)
    assert IsolationForest(trees=30)(recording_of(block_out=patches), SQUARE).mask.float().mean() < 0.05


def test_settings_without_sense_and_a_single_patch_are_refused():
    with pytest.raises(ValueError, match="`trees` should be at least 1"):
        IsolationForest(trees=0)
    with pytest.raises(ValueError, match="`threshold` should be from 0 to 1"):
        IsolationForest(threshold=float("nan"))
    assert "1 patch" in str(IsolationForest().unsupported_reason(Layout(0, Grid(1, 1))))
