"""What is gathered inside is what a plain recording of the forward pass shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from diagnostics import Recorder, load_backbone
from diagnostics.detectors import DETECTORS
from diagnostics.images import load_image
from diagnostics.measures.pca import principal_components
from diagnostics.studies.image_report import ImageReports

DETECTOR = "norm-topk:count=3"


@pytest.fixture(scope="module", params=["tiny", "tiny:class_token=false", "tiny:registers=4"])
def backbone(request):
    return load_backbone(request.param)


@pytest.fixture
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def looked(backbone, image, *detectors, **options):
    (report,) = ImageReports(backbone, [image], detectors or [DETECTOR], size="80x48", **options)
    return report


def recorded(backbone, photo):
    image = load_image(photo, size="80x48", mean=backbone.mean, std=backbone.std)[None]
    recorder = Recorder("attention", "block_out")
    backbone.trunk(image, tap=recorder)
    return recorder, backbone.layout(image)


def test_norms_attention_and_similarity_are_those_of_the_forward_pass(backbone, image):
    report = looked(backbone, image)
    recorder, layout = recorded(backbone, image)
    assert report.layout == layout
    assert tuple(layout.grid) == (3, 5)
    assert report.layers == tuple(range(1, 13))
    np.testing.assert_allclose(report.norms, recorder.recording.stack("block_out")[:, 0].norm(dim=-1), rtol=1e-5)
    attention = recorder.recording.stack("attention")[:, 0]
    np.testing.assert_allclose(report.attention, attention, atol=6e-4)
    np.testing.assert_allclose(report.mean_attention, attention.mean(1), atol=6e-4)
    for place, layer in enumerate(report.layers):
        patches = layout.patches(recorder["block_out", layer])[0]
        cosines = torch.nn.functional.cosine_similarity(patches[:, None], patches[None], dim=-1)
        np.testing.assert_allclose(report.similarity[place], cosines, atol=6e-4)


def test_scores_and_marks_are_the_detectors_own(backbone, image):
    report = looked(backbone, image, DETECTOR, "relative-norm:threshold=1.2")
    recorder, layout = recorded(backbone, image)
    assert list(report.scored) == [DETECTOR, "relative-norm:threshold=1.2"]
    for spec, scored in report.scored.items():
        detector = DETECTORS.build(spec)
        for place, layer in enumerate(report.layers):
            outliers = detector(recorder.recording.at(layer), layout)
            np.testing.assert_allclose(scored.scores[place], outliers.scores[0], rtol=1e-5)
            assert np.array_equal(scored.marked[place], outliers.mask[0])
        assert scored.published == detector.published
    assert report.scored["relative-norm:threshold=1.2"].threshold == 1.2


def test_a_rule_that_is_no_threshold_has_none(image):
    specs = ["norm-topk", "som-release", "lof-release", "adaptive", "norm:threshold=5"]
    (report,) = ImageReports(load_backbone("tiny"), [image], specs, size="96", layers=[6])
    assert [report.scored[spec].threshold for spec in specs] == [None, None, None, None, 5.0]


def test_only_what_was_marked_is_purified(backbone, image):
    report = looked(backbone, image, "random:count=2", DETECTOR, purifier="zero", purified_by=DETECTOR)
    marked = report.scored[DETECTOR].marked
    norms = report.norms[1:, backbone.prefix :]
    assert (report.purified_norms[marked] == 0).all()
    np.testing.assert_allclose(report.purified_norms[~marked], norms[~marked], rtol=1e-6)
    both = ~marked[:, :, None] & ~marked[:, None]
    assert np.array_equal(report.purified_similarity[both], report.similarity[both])
    assert (report.purified_similarity[~both] == 0).all()
    assert (report.purifier, report.purified_by) == ("zero", DETECTOR)


def test_keeping_changes_nothing(backbone, image):
    report = looked(backbone, image, purifier="keep")
    assert np.array_equal(report.purified_similarity, report.similarity)
    assert np.array_equal(report.purified_components, report.components)


def test_components_are_the_principal_ones_of_the_purified_patches(backbone, image):
    report = looked(backbone, image, purifier="keep", layers=[-1])
    recorder, layout = recorded(backbone, image)
    expected = principal_components(layout.patches(recorder["block_out", -1]).double()).scores[0]
    np.testing.assert_allclose(np.abs(report.components[0]), expected.abs(), rtol=1e-3, atol=1e-3)


def test_layers_and_heads_are_those_asked_for(backbone, image):
    report = looked(backbone, image, layers=[-1, 3], heads="mean")
    whole = looked(backbone, image)
    assert report.layers == (3, 12)
    assert report.attention is None
    # Not to the last digit: where no matrix is wanted, attention is fused.
    np.testing.assert_allclose(report.mean_attention, whole.mean_attention[[2, 11]], atol=1e-3)
    np.testing.assert_allclose(report.norms, whole.norms, rtol=1e-5)


def test_a_padded_image_lies_inside_its_frame(image):
    (report,) = ImageReports(load_backbone("tiny"), [image], [DETECTOR], size="native")
    assert tuple(report.layout.grid) == (4, 6)  # 50 x 90 in patches of 16
    assert report.inset == pytest.approx((7 / 64, 3 / 96, 50 / 64, 90 / 96))
    assert report.aspect == pytest.approx(96 / 64)
    assert report.image.shape == (50, 90, 3)


def test_a_stretched_image_keeps_its_own_proportions(backbone, image):
    (report,) = ImageReports(backbone, [image], [DETECTOR], size="64")
    assert tuple(report.layout.grid) == (4, 4)
    assert report.aspect == pytest.approx(90 / 50)
    assert report.inset == (0, 0, 1, 1)


def test_images_that_cannot_be_read_are_named(image):
    bad = image.with_name("b.png")
    bad.write_bytes(b"no image")
    looking = ImageReports(load_backbone("tiny"), [bad, image], [DETECTOR], size="80x48")
    assert [report.name for report in looking] == ["a.png"]
    assert list(looking.left_out) == ["b.png"]


def test_arrays_of_one_size_are_kept_apart():
    arrays = [np.full((48, 80, 3), value, np.uint8) for value in (0, 200)]
    first, second = ImageReports(load_backbone("tiny"), arrays, [DETECTOR], size="80x48")
    assert (first.image.max(), second.image.min()) == (0, 200)
    assert not np.array_equal(first.norms, second.norms)


def test_what_does_not_go_together_is_refused_at_the_door(image):
    tiny, bare = load_backbone("tiny"), load_backbone("tiny:class_token=false")
    with pytest.raises(ValueError, match="by"):
        ImageReports(tiny, [image], [DETECTOR], purified_by="lof")
    with pytest.raises(ValueError, match="heads"):
        ImageReports(tiny, [image], [DETECTOR], heads="some")
    with pytest.raises(ValueError, match="class token"):
        ImageReports(bare, [image], [DETECTOR], purifier="class-token")
    with pytest.raises(ValueError, match="class-residual"):
        ImageReports(bare, [image], ["class-residual"])
