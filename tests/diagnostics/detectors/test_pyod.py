"""The adapter of PyOD: its interface played by a small module, and the errors without the library."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from diagnostics.detectors.pyod import Pyod
from diagnostics.layout import Grid, Layout

SQUARE = Layout(0, Grid(14, 14))


class FarOff:
    """What PyOD's detectors have: fit, decision_scores_ and labels_ by the percentile of the contamination."""

    def __init__(self, contamination=0.1, random_state=None):
        self.contamination, self.random_state = contamination, random_state

    def fit(self, X):
        assert np.isfinite(X).all()
        self.decision_scores_ = np.linalg.norm(X - np.median(X, axis=0), axis=1) + self.random_state
        self.labels_ = self.decision_scores_ > np.percentile(self.decision_scores_, 100 * (1 - self.contamination))
        return self


@pytest.fixture
def library(monkeypatch):
    """PyOD with one detector, FarOff, in the module far_off."""
    root, models, module = ModuleType("pyod"), ModuleType("pyod.models"), ModuleType("pyod.models.far_off")
    root.__path__, models.__path__ = [], []
    module.FarOff = FarOff
    for part in (root, models, module):
        monkeypatch.setitem(sys.modules, part.__name__, part)


@pytest.mark.usefixtures("library")
def test_scores_and_marks_are_the_models_own(planted, recording_of):
    patches, truth = planted(4, 2)
    outliers = Pyod(name="FarOff", seed=2)(recording_of(block_out=patches), SQUARE)
    for image, scores, mask in zip(patches, *outliers, strict=True):
        model = FarOff(contamination=0.05, random_state=2).fit(image.numpy())
        np.testing.assert_allclose(scores, model.decision_scores_, rtol=1e-6)
        assert mask.tolist() == model.labels_.tolist()
    assert outliers.mask[truth].all()
    assert outliers.mask.sum(dim=1).tolist() == [10, 10]
    assert Pyod.quota


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["FarOff", "far_off"])
def test_a_name_is_found_with_and_without_underscores(name, recording_of):
    tokens = torch.randn(1, 196, 4, generator=torch.Generator().manual_seed(0))
    assert Pyod(name=name).score(recording_of(block_out=tokens), SQUARE).shape == (1, 196)


@pytest.mark.usefixtures("library")
def test_a_damaged_image_is_kept_from_the_model(planted, recording_of):
    patches, _ = planted(4, 2)
    patches[1, 0, 0] = torch.nan
    outliers = Pyod(name="FarOff")(recording_of(block_out=patches), SQUARE)
    assert outliers.scores[0].isfinite().all()
    assert outliers.scores[1].isnan().all()
    assert not outliers.mask[1].any()


@pytest.mark.usefixtures("library")
def test_an_unknown_name_is_refused_with_what_to_write(recording_of):
    with pytest.raises(ValueError, match=r"PyOD has no detector `Nearest`.*ECOD"):
        Pyod(name="Nearest")(recording_of(block_out=torch.ones(1, 196, 4)), SQUARE)


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch, recording_of):
    monkeypatch.setitem(sys.modules, "pyod", None)  # Python's way to say that there is no such module
    with pytest.raises(ValueError, match="pip install pyod"):
        Pyod()(recording_of(block_out=torch.ones(1, 196, 4)), SQUARE)
    with pytest.raises(ValueError, match="pip install pyod"):
        Pyod().score(recording_of(block_out=torch.ones(1, 196, 4)), SQUARE)


def test_a_contamination_that_pyod_would_refuse_is_refused_at_once():
    with pytest.raises(ValueError, match="`contamination` should be a share"):
        Pyod(contamination=0.7)
