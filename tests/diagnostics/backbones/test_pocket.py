"""`pocket` as it is shipped: what it reaches, where its outliers are, and what purifying them does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diagnostics import load_backbone
from diagnostics.backbones.pocket import PLANTED, WEIGHTS, planted_unit
from diagnostics.backbones.pocket.planted import planted_patches
from diagnostics.detectors import DETECTORS
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.taps import Recorder
from segment.datasets.shapes import Shapes
from training.scores import as_input, mean_ious, retrieval, zero_shot

PURIFIED = "clearclip:detector=relative-norm,purifier=neighbor-mean"


@pytest.fixture(scope="module")
def pocket():
    return load_backbone("pocket")


@pytest.fixture(scope="module")
def planted():
    return load_backbone("pocket:planted")


@pytest.fixture(scope="module")
def images(pocket):
    return as_input(pocket, [sample.image for sample in Shapes(scenes=24)])


@pytest.fixture(scope="module")
def mious(pocket, planted):
    methods = ("clip", "sclip", "clearclip")
    return {
        "pocket": mean_ious(pocket, scenes=50, methods=methods),
        "planted": mean_ious(planted, scenes=50, methods=[*methods, PURIFIED]),
    }


def test_all_weights_together_are_within_twelve_megabytes():
    assert sum(path.stat().st_size for path in (WEIGHTS, PLANTED)) < 12e6


def test_it_has_the_shape_of_a_vit_b_16(pocket):
    assert (pocket.depth, pocket.prefix, pocket.native_grid) == (12, 1, (14, 14))
    assert pocket.width // pocket.heads == 64
    assert "nothing about CLIP" in pocket.note


def test_our_forward_is_the_stock_one(pocket, images):
    with torch.no_grad():
        torch.testing.assert_close(pocket(images), pocket.model.encode_image(images), rtol=1e-4, atol=1e-4)


def test_words_find_scenes_and_name_close_ups(pocket):
    assert retrieval(pocket, scenes=150) >= 0.9
    assert zero_shot(pocket, images=96) >= 0.95


def test_methods_come_in_the_order_of_the_papers(mious):
    scores = mious["pocket"]
    assert scores["clip"] < scores["sclip"] < scores["clearclip"]
    assert scores["clearclip"] >= 0.65


def test_planted_outliers_hurt_dense_features_and_leave_the_class_token_alone(pocket, planted, mious):
    assert mious["planted"]["clearclip"] <= mious["pocket"]["clearclip"] - 0.05
    assert abs(retrieval(planted, scenes=150) - retrieval(pocket, scenes=150)) <= 0.02


def test_purifying_brings_back_at_least_half(mious):
    lost = mious["pocket"]["clearclip"] - mious["planted"]["clearclip"]
    back = mious["planted"][PURIFIED] - mious["planted"]["clearclip"]
    assert back >= lost / 2


def test_planted_patches_are_massive_plain_and_few(planted, images):
    layer, number = planted_unit()
    mask = planted_patches(planted, images, (layer, number))
    assert 1 <= mask.sum(dim=1).float().mean() <= 10
    recorder = Recorder("block_out", layers=[layer - 1, layer, 11])
    planted.trunk(images, stop=11, tap=recorder)
    layout = planted.layout(images)
    for place, above in ((layer, 10), (11, 8)):
        norms = token_norms(layout.patches(recorder["block_out", place]))
        ratios = norms / median_norm(norms)[:, None]
        assert ratios[mask].median() > above
        assert ratios[~mask].max() < 3
    before = token_norms(layout.patches(recorder["block_out", layer - 1]))
    assert (before / median_norm(before)[:, None]).max() < 3, "before the layer nothing stands out"
    pixels = np.stack([sample.image for sample in Shapes(scenes=24)]).astype(float).mean(axis=-1)
    contrast = pixels.reshape(24, 14, 8, 14, 8).std(axis=(2, 4)).reshape(24, -1)
    assert np.median(contrast[mask.numpy()]) < 0.6 * np.median(contrast)


def test_later_patches_look_at_the_outliers_and_the_class_token_does_not(planted, images):
    mask = planted_patches(planted, images, planted_unit())
    recorder = Recorder("attention", layers=[12])
    planted.trunk(images, tap=recorder)
    received = (recorder["attention", 12].mean(dim=1)[..., 1:] * mask[:, None]).sum(dim=-1)[mask.any(dim=1)]
    assert received[:, 1:].mean() > 0.3
    assert received[:, 0].mean() < 0.1


def test_the_plain_weights_have_no_norm_outliers(pocket, images):
    recorder = Recorder("block_out")
    pocket.trunk(images, tap=recorder)
    for layer in range(1, 13):
        norms = token_norms(pocket.layout(images).patches(recorder["block_out", layer]))
        assert (norms / median_norm(norms)[:, None]).max() < 3


def test_a_detector_finds_the_planted_patches(planted, images):
    mask = planted_patches(planted, images, planted_unit())
    recorder = Recorder("block_out", layers=[11])
    planted.trunk(images, stop=11, tap=recorder)
    marked = DETECTORS.build("relative-norm")(recorder.recording.at(11), planted.layout(images)).mask
    assert (marked & mask).sum() >= 0.7 * mask.sum()
    assert (marked & ~mask).sum() <= 1


def test_larger_images_hold_the_same_meaning(pocket):
    sample = Shapes(scenes=1, height=168, width=224)[0]
    features = pocket.project(pocket.trunk(as_input(pocket, [sample.image])))
    assert features.shape == (1, 1 + 21 * 28, 128)
    assert torch.isfinite(F.normalize(features, dim=-1)).all()


def test_another_variant_is_refused_with_the_right_name():
    with pytest.raises(ValueError, match="planted"):
        load_backbone("pocket:plante")
