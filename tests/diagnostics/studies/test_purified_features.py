"""Purified features: in place and propagated, against purifying one image at a time by hand."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.detectors.relative_norm import RelativeNorm
from diagnostics.layout import Grid, Layout
from diagnostics.purifiers.image_mean import ImageMean
from diagnostics.registry import UnknownName
from diagnostics.studies import feature_maps, purified_features
from diagnostics.studies.feature_maps import features
from diagnostics.studies.purified_features import parse_purification, purify, purify_tokens

SPECS = ["tiny:outliers=true", "tiny:class_token=false", "tiny:registers=4"]
NATIVE = {"size": "native", "batch": 2}
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def by_hand(backbone, tokens, threshold):
    """Tokens (1, T, D) whose patches above `threshold` x the median norm become the mean of the others; the marks."""
    purified, prefix = tokens.clone(), backbone.prefix
    patches = tokens[0, prefix:]
    norms = torch.tensor([float(patch.norm()) for patch in patches])
    marked = norms > threshold * np.median(norms.numpy())
    for number in range(len(patches)):
        if marked[number]:
            purified[0, prefix + number] = patches[~marked].mean(dim=0)
    return purified, marked


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("purify_at", [None, 6])
def test_features_are_those_of_purifying_each_image_by_hand(spec, purify_at, half_plain, recorded):
    backbone, threshold = load_backbone(spec), 3.0 if "outliers" in spec else 1.1
    purification = f"relative-norm:threshold={threshold} + image-mean"
    result = purify(backbone, half_plain, purification, layer=8, purify_at=purify_at, **NATIVE)
    assert isinstance(result.features, list)
    assert result.names == [f"image-{number:04d}" for number in range(1, 6)]
    for image, maps, marked in zip(half_plain, result.features, result.marked, strict=True):
        grid = (image.shape[0] // 16, image.shape[1] // 16)
        tokens, mask = by_hand(backbone, recorded(backbone, image)["block_out", purify_at or 8], threshold)
        if purify_at:
            for block in backbone.blocks[6:8]:
                tokens = block(tokens)
        assert maps.dtype == np.float32
        assert maps.shape == (*grid, backbone.width)
        assert np.array_equal(marked, mask.reshape(grid).numpy())
        assert np.allclose(maps, tokens[0, backbone.prefix :].reshape(*grid, backbone.width).numpy(), **CLOSE)
    assert any(marked.any() for marked in result.marked)
    only = features(backbone, half_plain, layer=8, purify=purification, purify_at=purify_at, **NATIVE)
    assert all(map(np.array_equal, only, result.features))


def test_later_blocks_see_propagated_patches_and_not_those_purified_in_place(half_plain):
    backbone, images = load_backbone("tiny:outliers=true"), half_plain[::2]
    plain = features(backbone, images, layer=8, **NATIVE)
    place = purify(backbone, images, layer=8, **NATIVE)
    onward = purify(backbone, images, layer=8, purify_at=6, **NATIVE)
    assert place.marked.any()
    assert onward.marked.any()
    assert np.array_equal(place.features[~place.marked], plain[~place.marked])
    assert not np.allclose(onward.features[~onward.marked], plain[~onward.marked], **CLOSE)


@pytest.mark.parametrize("spec", SPECS)
def test_features_as_they_are_are_the_block_output_in_the_order_of_the_images(spec, half_plain, recorded):
    backbone = load_backbone(spec)
    for layer in (0, 3, -1):
        maps = features(backbone, half_plain, layer=layer, **NATIVE)
        for image, map_ in zip(half_plain, maps, strict=True):
            rows = recorded(backbone, image)["block_out", layer][0, backbone.prefix :]
            assert np.allclose(map_.reshape(-1, backbone.width), rows.numpy(), **CLOSE)
    alike = features(backbone, half_plain[::2], layer=3, **NATIVE)
    assert isinstance(alike, np.ndarray)
    assert alike.shape == (3, 4, 6, backbone.width)
    assert features(backbone, half_plain[0], layer=3, size=32).shape == (1, 2, 2, backbone.width)


def test_a_detector_that_learns_and_a_pair_of_parts_are_taken(half_plain):
    backbone, images = load_backbone("tiny:outliers=true"), half_plain[::2]
    learned = purify(backbone, images, "mahalanobis + neighbor-mean", layer=8, **NATIVE)
    assert learned.marked.shape == (3, 4, 6)
    pair = purify(backbone, images, (RelativeNorm(), "image-mean"), layer=8, **NATIVE)
    spec = purify(backbone, images, "relative-norm + image-mean", layer=8, **NATIVE)
    assert np.array_equal(pair.features, spec.features)


@pytest.mark.parametrize(
    "text, detector, purifier",
    [
        ("relative-norm + image-mean", RelativeNorm(), ImageMean()),
        ("  relative-norm:threshold=5   +   image-mean ", RelativeNorm(threshold=5), ImageMean()),
        ("relative-norm+image-mean", RelativeNorm(), ImageMean()),
    ],
)
def test_a_purification_is_read_as_a_detector_and_a_purifier(text, detector, purifier):
    assert parse_purification(text) == (detector, purifier)


def test_a_plus_without_blanks_stays_part_of_a_setting():
    assert parse_purification("relative-norm:threshold=1e+2 + image-mean") == (RelativeNorm(threshold=100), ImageMean())


@pytest.mark.parametrize(
    "text", ["relative-norm", "", "relative-norm + ", "norm + keep + zero", ("norm", "keep", "zero")]
)
def test_what_is_no_pair_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"`DETECTOR \+ PURIFIER`"):
        parse_purification(text)


def test_an_unknown_part_is_refused_with_the_near_name():
    with pytest.raises(UnknownName, match="Did you mean `neighbor-mean`"):
        parse_purification("relative-norm + neigbor-mean")


@pytest.mark.parametrize("prefix, class_index", [(0, None), (1, 0), (5, 0)])
def test_tokens_at_hand_are_purified_and_their_prefix_is_kept(prefix, class_index):
    layout = Layout(prefix, Grid(2, 3), class_index)
    tokens = torch.rand(2, layout.tokens, 4) + 1
    tokens[:, :prefix] = 1000.0
    tokens[1, prefix + 4] = 500.0
    before = tokens.clone()
    purified, marked = purify_tokens(tokens, layout, "relative-norm + image-mean")
    assert marked.nonzero().tolist() == [[1, 4]]
    others = [prefix + patch for patch in (0, 1, 2, 3, 5)]
    assert torch.allclose(purified[1, prefix + 4], before[1, others].mean(dim=0))
    purified[1, prefix + 4] = before[1, prefix + 4]
    assert torch.equal(purified, before)
    assert torch.equal(tokens, before)


@pytest.mark.parametrize("detector, reason", [("som", "reads `query`"), ("singular-defect", "learns")])
def test_tokens_alone_do_for_no_detector_that_needs_more(detector, reason):
    with pytest.raises(ValueError, match=reason):
        purify_tokens(torch.ones(1, 7, 4), Layout(1, Grid(2, 3)), f"{detector} + image-mean")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"purify_at": 9}, "from 1 to the layer that is returned, 8; got 9"),
        ({"purify_at": 0}, "from 1 to the layer"),
        ({"layer": 13}, "0…12"),
        ({"purification": "class-residual + image-mean"}, "no class token"),
        ({"purification": "norm + class-token"}, "no class token"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message, half_plain):
    with pytest.raises(ValueError, match=message):
        purify(load_backbone("tiny:class_token=false"), half_plain, **{"layer": 8, **settings})


def test_an_unreadable_image_raises_since_rows_must_stay_in_step(tmp_path, tiny):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png"):
        features(tiny, [np.zeros((64, 64, 3), np.uint8), tmp_path / "a.png"])
    with pytest.raises(ValueError, match="`purify_at` should come with"):
        features(tiny, np.zeros((64, 64, 3), np.uint8), purify_at=3)


@pytest.mark.parametrize("module", [purified_features, feature_maps])
def test_the_examples_run(module):
    results = doctest.testmod(module)
    assert results.attempted > 3
    assert results.failed == 0
