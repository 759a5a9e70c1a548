"""What every detector in the registry keeps to: it finds what is planted and only that, image by image."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.base import Detector, ThresholdDetector
from diagnostics.detectors.pyod import MISSING
from diagnostics.layout import Grid, Layout
from diagnostics.tap_places import ATTENTION_PARTS
from diagnostics.taps import Recorder, Recording

GRID = Grid(8, 12)
CLASS_ONLY = Layout(1, GRID)
LAYOUTS = [CLASS_ONLY, Layout(5, GRID), Layout(0, GRID), Layout(4, GRID, None)]

# What detectors that learn would have learned of the scene below: the unit and the channel of its outliers.
LEARNED = {
    "register-neuron": {"neurons": ((1, 3),), "levels": ((0.8, 6.0),)},
    "profile": {"line": 3.0, "facts": {"detector": "relative-norm"}},
    "auto": {"line": 3.0},
    "singular-defect": {"direction": tuple(float(channel == 7) for channel in range(64))},
}
# The library is optional; its own tests stand in for it.
PYOD_IS_HERE = DETECTORS.build("pyod").unsupported_reason(CLASS_ONLY) != MISSING
REGISTERED = [name for name in DETECTORS if name != "pyod" or PYOD_IS_HERE]
SPECS = [
    *REGISTERED,
    "massive:tokens=patches",
    "channel-peak:profile=peak",
    "som:compare=difference",
    "som:heads=vote",
    "self-correlation:weights=softmax",
    "self-correlation:weights=inner-product,tokens=all",
]
# Cosines can't fall below that of a patch with itself, so the printed rule marks nothing; random finds by chance alone;
# few of an isolation forest's cuts meet the one channel of 64 that carries the outliers.
NO_FINDERS = ("self-correlation", "random", "isolation-forest")
# Drawn by place, or by the order in which a library's generator meets the patches.
BOUND_TO_PLACES = ("random", "isolation-forest", "pyod")
# Its threshold of 0.5 is where all scores lie if there is none: some ordinary patches may pass.
NOT_ALWAYS_NONE = ("isolation-forest",)

every = pytest.mark.parametrize("spec", SPECS)


def name_of(spec):
    return spec.partition(":")[0]


def ready(spec):
    """The detector that a spec names, with what it would have learned."""
    return replace(DETECTORS.build(spec), **LEARNED.get(name_of(spec), {}))


WIDTH, HEADS, HEAD_WIDTH = 64, 2, 128


def scene(layout, *, planted=0, batch=2, seed=0, dtype=torch.float32):
    """A layer of which each patch attends to itself; planted ones are long, and drawn on by all patches and the class.

    Returns the recording and the truth (B, N).
    """
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(*shape, generator=generator)

    count, tokens = layout.count, layout.tokens
    truth = torch.zeros(batch, count, dtype=torch.bool)
    for image in truth:
        image[torch.randperm(count, generator=generator)[:planted]] = True
    hidden = noise(batch, tokens, WIDTH)
    heads = {name: 0.02 * noise(batch, HEADS, tokens, HEAD_WIDTH) for name in ("query", "key", "value")}
    drawn_on = torch.eye(HEAD_WIDTH)[-1]
    orthogonal = 5.83 * torch.eye(HEAD_WIDTH)[:count]  # q·k/√d is 3 on the diagonal and 0 elsewhere
    for values in heads.values():
        layout.patches(values, dim=2).add_(orthogonal)
    layout.patches(heads["query"], dim=2).add_(6 * drawn_on)
    if layout.class_index is not None:
        # A short key draws little attention, and its direction counts all the same.
        for name, length in (("query", 9.0), ("key", 0.5), ("value", 5.0)):
            layout.class_token(heads[name], dim=2).copy_(length * drawn_on)
    places = truth[:, None, :, None]
    for name, length in (("query", 0.0), ("key", 11.3), ("value", 5.0)):
        patches = layout.patches(heads[name], dim=2)
        patches.copy_(torch.where(places, length * drawn_on, patches))
    layout.patches(hidden)[truth, 7] = -2000.0
    units = noise(batch, tokens, 32)
    layout.patches(units)[truth, 3] = 6.0
    taps = {"block_out": hidden, "ffn_hidden": units, **heads}
    return Recording(1, {(name, 1): value.to(dtype) for name, value in taps.items()}), truth


def changed(recording, change):
    return Recording(1, {place: change(place[0], value.clone()) for place, value in recording.values.items()})


def runs_on(detector, layout):
    reason = detector.unsupported_reason(layout)
    assert reason is None or (layout.class_index is None and "no class token" in reason)
    return reason is None


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("planted", [1, 4, 10])
@pytest.mark.parametrize("spec", [spec for spec in SPECS if name_of(spec) not in NO_FINDERS])
def test_planted_outliers_are_marked_and_nothing_else_is(spec, planted, layout):
    detector = ready(spec)
    recording, truth = scene(layout, planted=planted)
    if not runs_on(detector, layout):
        with pytest.raises(ValueError, match="no class token"):
            detector(recording, layout)
        return
    scores, mask = detector(recording, layout)
    lowest = torch.where(truth, scores, torch.inf).amin(dim=1)
    highest = torch.where(truth, -torch.inf, scores).amax(dim=1)
    assert (lowest > highest).all()
    if detector.quota:
        assert mask.any(dim=1).all()
        assert ((mask & truth).sum(dim=1) == mask.sum(dim=1).minimum(truth.sum(dim=1))).all()
    else:
        assert torch.equal(mask, truth)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@every
def test_a_image_without_outliers_has_an_empty_mask_unless_there_is_a_quota(spec, layout):
    detector = ready(spec)
    if runs_on(detector, layout):
        scores, mask = detector(scene(layout)[0], layout)
        assert scores.shape == mask.shape == (2, layout.count)
        assert scores.dtype == torch.float32
        assert mask.dtype == torch.bool
        assert spec in NOT_ALWAYS_NONE or mask.any() == detector.quota


@every
def test_images_are_independent_and_the_recording_is_left_alone(spec):
    detector = ready(spec)
    recording, _ = scene(CLASS_ONLY, planted=4, batch=3)
    before = changed(recording, lambda name, value: value)
    scores, mask = detector(recording, CLASS_ONLY)
    for place, value in recording.values.items():
        assert torch.equal(value, before.values[place])
    for image in range(3):
        alone = changed(recording, lambda name, value, chosen=image: value[chosen : chosen + 1])
        alone_scores, alone_mask = detector(alone, CLASS_ONLY)
        torch.testing.assert_close(alone_scores[0], scores[image], rtol=1e-4, atol=1e-5)
        assert torch.equal(alone_mask[0], mask[image])


def rearranged(recording, layout, order):
    """The recording with its patches in another order; prefix tokens stay."""
    tokens = torch.cat([torch.arange(layout.prefix), layout.prefix + order])
    return changed(recording, lambda name, value: value.index_select(value.ndim - 2, tokens))


ORDERS = {
    "shuffled": torch.randperm(GRID.patches, generator=torch.Generator().manual_seed(3)),
    "left to right": torch.arange(GRID.patches).view(GRID).flip(1).flatten(),
    "upside down": torch.arange(GRID.patches).view(GRID).flip(0).flatten(),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("spec", [spec for spec in SPECS if name_of(spec) not in BOUND_TO_PLACES])
def test_scores_follow_a_permutation_of_the_patches_and_a_flip_of_the_grid(spec, order):
    detector, layout = ready(spec), Layout(5, GRID)
    recording, _ = scene(layout, planted=4)
    scores = detector.score(rearranged(recording, layout, ORDERS[order]), layout)
    torch.testing.assert_close(scores, detector.score(recording, layout)[:, ORDERS[order]], rtol=1e-3, atol=1e-4)


@every
def test_half_precision_is_measured_in_single(spec):
    detector = ready(spec)
    recording, _ = scene(CLASS_ONLY, planted=4, dtype=torch.bfloat16)
    scores = detector.score(recording, CLASS_ONLY)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, detector.score(changed(recording, lambda name, value: value.float()), CLASS_ONLY))


@every
def test_a_nan_token_is_never_marked_and_touches_no_other_image(spec):
    detector = ready(spec)
    recording, _ = scene(CLASS_ONLY, planted=4)
    patch = CLASS_ONLY.prefix + 20

    def broken(name, value):
        value[0].select(-2, patch).fill_(torch.nan)
        return value

    scores, mask = detector(changed(recording, broken), CLASS_ONLY)
    whole_scores, whole_mask = detector(recording, CLASS_ONLY)
    assert scores[0, 20].isnan()
    assert not mask[scores.isnan()].any()
    assert torch.equal(scores[1], whole_scores[1])
    assert torch.equal(mask[1], whole_mask[1])


@every
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4])
def test_scores_are_finite_where_all_tokens_are_equal_or_extreme(spec, size):
    detector = ready(spec)
    recording, _ = scene(CLASS_ONLY, planted=1)
    flat = changed(recording, lambda name, value: torch.full_like(value, size))
    large = changed(recording, lambda name, value: size * value)
    assert detector.score(flat, CLASS_ONLY).isfinite().all()
    assert detector.score(large, CLASS_ONLY).isfinite().all()


@pytest.mark.parametrize("spec", [spec for spec in SPECS if issubclass(DETECTORS[name_of(spec)], ThresholdDetector)])
def test_a_detector_at_another_threshold_marks_the_same_scores_anew(spec):
    detector = ready(spec)
    recording, _ = scene(CLASS_ONLY, planted=4)
    scores = detector.score(recording, CLASS_ONLY)
    assert not detector.at(scores.max().item()).mark(scores).any()
    middle = scores.median().item()
    other = detector.at(middle)
    assert other == replace(detector, threshold=middle)
    assert other.threshold == middle
    assert torch.equal(other.score(recording, CLASS_ONLY), scores)
    limit = detector.most if spec == "som-release" else CLASS_ONLY.count
    assert other.mark(scores).sum(dim=1).tolist() == (scores > middle).sum(dim=1).clamp_max(limit).tolist()


@every
def test_a_detector_says_where_its_threshold_is_from(spec):
    detector = ready(spec)
    assert len(detector.published.split()) > 8
    assert {"block_out", *ATTENTION_PARTS, "value", "ffn_hidden"} >= set(detector.needs)


@pytest.fixture(scope="module")
def outlying():
    return load_backbone("tiny:outliers=true")


@pytest.mark.parametrize("name", [name for name in REGISTERED if name != "profile"])  # which reads a file
def test_learning_changes_neither_the_weights_nor_the_detector_nor_the_images(name, outlying):
    coarse = torch.randn(3, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(coarse, (128, 160), mode="bilinear")
    detector, layout = DETECTORS.build(name), outlying.layout(images)
    before, pixels = fingerprint(outlying.model), images.clone()
    learned = detector.fitted(outlying, images, 6)
    together = detector.fitted_to(outlying, images, [6, -1])
    assert fingerprint(outlying.model) == before
    assert torch.equal(images, pixels)
    assert detector == DETECTORS.build(name)
    recorder = Recorder(*detector.needs, layers=[6])
    outlying.trunk(images, tap=recorder)
    scores = learned.score(recorder.recording.at(6), layout)
    assert scores.isfinite().all()
    torch.testing.assert_close(together[6].score(recorder.recording.at(6), layout), scores)
    if type(detector).fitted is not Detector.fitted and name != "adaptive":
        with pytest.raises(ValueError, match=r"detector\.fitted\(backbone, images, layer\)"):
            detector(recorder.recording.at(6), layout)
