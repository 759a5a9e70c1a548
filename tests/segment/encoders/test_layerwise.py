"""One fitted detector for each of several layers."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.relative_norm import RelativeNorm
from diagnostics.detectors.singular_defect import SingularDefect
from diagnostics.taps import Recorder
from segment.encoders.layerwise import Layerwise, fitted_layerwise


def test_each_layer_is_scored_by_the_detector_that_was_fitted_to_it(tiny, images, layout):
    detector = fitted_layerwise(SingularDefect(samples=1), tiny, images, [3, 5])
    recorder = Recorder("block_out", layers=[3, 5])
    tiny.trunk(images, stop=5, tap=recorder)
    scores = {}
    for layer in (3, 5):
        fitted = SingularDefect(samples=1).fitted(tiny, images, layer)
        scores[layer] = detector(recorder.recording.at(layer), layout)
        expected = fitted(recorder.recording.at(layer), layout)
        assert torch.equal(scores[layer].scores, expected.scores)
        assert torch.equal(scores[layer].mask, expected.mask)
    assert detector.detectors[0].direction != detector.detectors[1].direction


def test_a_layer_it_was_not_fitted_to_is_refused(tiny, images, layout):
    detector = fitted_layerwise(SingularDefect(samples=1), tiny, images, [3])
    recorder = Recorder("block_out", layers=[4])
    tiny.trunk(images, stop=4, tap=recorder)
    with pytest.raises(ValueError, match=r"SingularDefect was fitted to layers 3; this is layer 4"):
        detector(recorder.recording, layout)


def test_a_detector_that_does_not_learn_comes_back_as_it_is(tiny, images):
    detector = RelativeNorm()
    assert fitted_layerwise(detector, tiny, images, [1, 2]) is detector


def test_fitting_again_starts_from_the_detector_itself(tiny, images):
    once = fitted_layerwise(SingularDefect(samples=1), tiny, images, [3])
    again = fitted_layerwise(once, tiny, images, [4])
    assert isinstance(again, Layerwise)
    assert again == fitted_layerwise(SingularDefect(samples=1), tiny, images, [4])
