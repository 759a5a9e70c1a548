"""Detectors with a line of their own for each layer: of a profile, and of the images at hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.detectors import DETECTORS
from diagnostics.gap_line import GapLine
from diagnostics.images import normalize
from diagnostics.profile_file import OtherModel, write_profile
from diagnostics.studies.outlier_search import find_outliers
from diagnostics.studies.profile import profile
from diagnostics.studies.scoring import score_images
from diagnostics.taps import Recorder


@pytest.fixture(scope="module")
def plain():
    generator = np.random.default_rng(0)
    return [(level + generator.integers(0, 8, (112, 112, 3))).astype(np.uint8) for level in range(20, 220, 20)]


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("tiny:outliers=true")


@pytest.fixture(scope="module")
def made(backbone, plain):
    return profile(backbone, plain, examine=0)


@pytest.fixture
def file(made, tmp_path):
    return made.write(tmp_path / "profile.json")


def test_a_profile_marks_what_is_above_its_line_in_each_layer(backbone, plain, made, file):
    scores = score_images(backbone, plain, [f"profile({file})", "relative-norm"], layers=[5, 6, 7])
    ratio = scores["score"].sel(detector="relative-norm")
    marked = scores["marked"].isel(detector=0)
    for layer in (6, 7):
        expected = ratio.sel(layer=layer) > made.threshold[layer]
        assert (marked.sel(layer=layer) == expected).all()
        assert expected.any()
    assert not marked.sel(layer=5).any()
    less_line = scores["score"].isel(detector=0)
    assert (less_line.sel(layer=5) < 0).all()
    order = np.argsort(ratio.sel(layer=5).values.reshape(10, -1), axis=1, kind="stable")
    assert (
        np.diff(np.take_along_axis(less_line.sel(layer=5).values.reshape(10, -1), order, axis=1), axis=1) >= 0
    ).all()


def test_a_profile_of_other_weights_or_normalization_is_refused(plain, made, file, tmp_path):
    other = load_backbone("tiny:seed=3")
    with pytest.raises(OtherModel, match="is the profile of `tiny:outliers=true` with the weights"):
        find_outliers(other, plain[:1], f"profile({file})")
    settings = made.facts["settings"] | {"mean": [0.5, 0.5, 0.5]}
    changed = write_profile(made.facts | {"settings": settings}, tmp_path / "other.json")
    with pytest.raises(OtherModel, match="normalized with mean"):
        find_outliers(load_backbone("tiny:outliers=true"), plain[:1], f"profile({changed})")


def test_a_layer_that_was_not_profiled_is_refused_by_name(backbone, plain, tmp_path):
    short = profile(backbone, plain, layers=[6, 7], examine=0).write(tmp_path / "short.json")
    with pytest.raises(ValueError, match="has the layers 6, 7, and layer 12 is asked for"):
        find_outliers(backbone, plain[:1], f"profile:{short}")
    with pytest.raises(ValueError, match=r"should name a file: profile\(FILE\)"):
        find_outliers(backbone, plain[:1], "profile")


def test_auto_has_the_line_of_the_images_that_it_gets_and_says_so(backbone, plain):
    images = torch.stack(
        [normalize(torch.from_numpy(image).permute(2, 0, 1) / 255, backbone.mean, backbone.std) for image in plain]
    )
    with pytest.warns(UserWarning, match="looked at 10 images: `relative-norm` has no line at layer 5"):
        ready = DETECTORS.build("auto").fitted_to(backbone, images, [5, 7])
    recorder = Recorder("block_out", layers=[7])
    with torch.no_grad():
        backbone.trunk(images, tap=recorder)
    scores = DETECTORS.build("relative-norm").score(recorder.recording, backbone.layout(images))
    assert GapLine()(scores.numpy(), layers=2).answer == "gap"
    expected = GapLine()(scores.numpy(), layers=2).threshold
    assert ready[7].line == pytest.approx(expected, rel=1e-6)
    assert np.isinf(ready[5].line)


def test_a_line_on_a_line_is_refused(backbone, plain):
    with pytest.raises(ValueError, match="has a line already"):
        find_outliers(backbone, plain[:1], "auto:detector=auto")
    with pytest.raises(ValueError, match="learns for each layer"):
        find_outliers(backbone, plain[:1], "auto:detector=register-neuron")
