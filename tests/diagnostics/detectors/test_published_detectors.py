"""What every detector taken from a paper, or from its released code, must do: find what is planted, and only that."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diagnostics.detectors.attention_rank1 import AttentionRank1
from diagnostics.detectors.base import ThresholdDetector
from diagnostics.detectors.channel_peak import ChannelPeak
from diagnostics.detectors.class_residual import ClassResidual
from diagnostics.detectors.massive import Massive
from diagnostics.detectors.norm import AbsoluteNorm
from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.detectors.received_attention import ReceivedAttention
from diagnostics.detectors.relative_norm import RelativeNorm
from diagnostics.detectors.self_correlation import SelfCorrelation
from diagnostics.detectors.som import Som
from diagnostics.detectors.som_release import SomRelease
from diagnostics.detectors.stripe import Stripe
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording

GRID = Grid(8, 12)
CLASS_ONLY = Layout(1, GRID)
LAYOUTS = [CLASS_ONLY, Layout(5, GRID), Layout(0, GRID), Layout(4, GRID, None)]

FINDERS = [
    AbsoluteNorm(),
    RelativeNorm(),
    NormTopK(),
    Massive(),
    ChannelPeak(),
    Som(),
    Som(compare="difference"),
    Som(heads="vote"),
    SomRelease(),
    ClassResidual(),
    ReceivedAttention(),
    Stripe(),
    AttentionRank1(),
]
EVERY = [
    *FINDERS,
    Massive(tokens="patches"),
    ChannelPeak(profile="peak"),
    SelfCorrelation(),
    SelfCorrelation(weights="softmax"),
    SelfCorrelation(weights="inner-product", tokens="all"),
]
FROM_CLASS_TOKEN = (Som, SomRelease, ClassResidual)

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
    for picture in truth:
        picture[torch.randperm(count, generator=generator)[:planted]] = True
    hidden = noise(batch, tokens, WIDTH)
    heads = {name: 0.02 * noise(batch, HEADS, tokens, HEAD_WIDTH) for name in ("query", "key", "value")}
    drawn_on = torch.eye(HEAD_WIDTH)[-1]
    own = 5.83 * torch.eye(HEAD_WIDTH)[:count]  # q·k/√d is 3 on the diagonal and 0 elsewhere
    for values in heads.values():
        layout.patches(values, dim=2).add_(own)
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
    taps = {"block_out": hidden, **heads}
    return Recording(1, {(name, 1): value.to(dtype) for name, value in taps.items()}), truth


def changed(recording, change):
    return Recording(1, {place: change(place[0], value.clone()) for place, value in recording.values.items()})


def runs_on(detector, layout):
    return layout.class_index is not None or not isinstance(detector, FROM_CLASS_TOKEN)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("planted", [1, 4, 10])
@pytest.mark.parametrize("detector", FINDERS, ids=str)
def test_planted_outliers_are_marked_and_nothing_else_is(detector, planted, layout):
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
        assert mask.sum(dim=1).tolist() == [10, 10]
        assert mask[truth].all()
    else:
        assert torch.equal(mask, truth)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("detector", EVERY, ids=str)
def test_a_picture_without_outliers_has_an_empty_mask_unless_there_is_a_quota(detector, layout):
    if runs_on(detector, layout):
        scores, mask = detector(scene(layout)[0], layout)
        assert scores.shape == mask.shape == (2, layout.count)
        assert scores.dtype == torch.float32
        assert mask.dtype == torch.bool
        assert mask.any() == detector.quota


@pytest.mark.parametrize("detector", EVERY, ids=str)
def test_pictures_are_independent_and_the_recording_is_left_alone(detector):
    recording, _ = scene(CLASS_ONLY, planted=4, batch=3)
    before = changed(recording, lambda name, value: value)
    scores, mask = detector(recording, CLASS_ONLY)
    for place, value in recording.values.items():
        assert torch.equal(value, before.values[place])
    for picture in range(3):
        alone = changed(recording, lambda name, value, one=picture: value[one : one + 1])
        alone_scores, alone_mask = detector(alone, CLASS_ONLY)
        torch.testing.assert_close(alone_scores[0], scores[picture], rtol=1e-4, atol=1e-5)
        assert torch.equal(alone_mask[0], mask[picture])


@pytest.mark.parametrize("detector", EVERY, ids=str)
def test_scores_follow_a_permutation_of_the_patches(detector):
    layout = Layout(5, GRID)
    recording, _ = scene(layout, planted=4)
    order = torch.randperm(layout.count, generator=torch.Generator().manual_seed(3))
    tokens = torch.cat([torch.arange(layout.prefix), layout.prefix + order])
    moved = changed(recording, lambda name, value: value[:, tokens] if name == "block_out" else value[:, :, tokens])
    found, expected = detector.score(moved, layout), detector.score(recording, layout)[:, order]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("detector", EVERY, ids=str)
def test_half_precision_is_measured_in_single(detector):
    recording, _ = scene(CLASS_ONLY, planted=4, dtype=torch.bfloat16)
    scores = detector.score(recording, CLASS_ONLY)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, detector.score(changed(recording, lambda name, value: value.float()), CLASS_ONLY))


@pytest.mark.parametrize("detector", EVERY, ids=str)
def test_a_nan_token_is_never_marked_and_touches_no_other_picture(detector):
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


@pytest.mark.parametrize("detector", EVERY, ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e4])
def test_scores_are_finite_where_all_tokens_are_equal_or_extreme(detector, size):
    recording, _ = scene(CLASS_ONLY, planted=1)
    flat = changed(recording, lambda name, value: torch.full_like(value, size))
    large = changed(recording, lambda name, value: size * value)
    assert detector.score(flat, CLASS_ONLY).isfinite().all()
    assert detector.score(large, CLASS_ONLY).isfinite().all()


@pytest.mark.parametrize("detector", [part for part in EVERY if isinstance(part, ThresholdDetector)], ids=str)
def test_a_detector_at_another_threshold_marks_the_same_scores_anew(detector):
    recording, _ = scene(CLASS_ONLY, planted=4)
    scores = detector.score(recording, CLASS_ONLY)
    assert not detector.at(scores.max().item()).mark(scores).any()
    middle = scores.median().item()
    other = detector.at(middle)
    assert other == replace(detector, threshold=middle)
    assert other.threshold == middle
    assert torch.equal(other.score(recording, CLASS_ONLY), scores)
    limit = detector.most if isinstance(detector, SomRelease) else CLASS_ONLY.count
    assert other.mark(scores).sum(dim=1).tolist() == (scores > middle).sum(dim=1).clamp_max(limit).tolist()


@pytest.mark.parametrize("detector", EVERY, ids=str)
def test_a_detector_says_where_its_threshold_is_from(detector):
    assert len(detector.published.split()) > 8
    assert {"block_out", "query", "key", "value"} >= set(detector.needs)
