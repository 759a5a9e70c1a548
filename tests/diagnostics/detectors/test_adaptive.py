"""Thresholds found in the scores: each rule against a slow loop, a library or by hand, and the guard against none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

import diagnostics.detectors
from diagnostics.detectors.adaptive import RULES, Adaptive, above_gap, knee, mad, mixture, otsu
from diagnostics.detectors.base import ThresholdDetector
from diagnostics.layout import Grid, Layout
from diagnostics.registry import Registry, UnknownName

SQUARE = Layout(0, Grid(14, 14))


@dataclass(frozen=True, kw_only=True)
class FirstChannel(ThresholdDetector):
    """The first channel of a patch is its score; `fitted` raises the threshold."""

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    published: ClassVar[str] = "a test"
    threshold: float = 1.0

    def unsupported_reason(self, layout):
        return "one patch is too few" if layout.count == 1 else None

    def fitted(self, backbone, images, layer):
        return self.at(layer)

    def score(self, recording, layout):
        return layout.patches(recording["block_out"])[..., 0].float()


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    known = Registry("detector", {"first": FirstChannel})
    monkeypatch.setattr(diagnostics.detectors, "DETECTORS", known, raising=False)


def gaussian(images=1, outliers=0, seed=0):
    scores = 10 + torch.randn(images, 196, generator=torch.Generator().manual_seed(seed))
    scores[:, 5 : 5 + outliers] += 40
    return scores.double()


def slow_otsu(scores):
    """The best split by trying each, with variances from numpy."""
    values = np.sort(scores.numpy())
    splits = [at for at in range(1, len(values)) if values[at] > values[at - 1]]
    within = [at * values[:at].var() + (len(values) - at) * values[at:].var() for at in splits]
    return scores.numpy() >= values[splits[int(np.argmin(within))]]


@pytest.mark.parametrize("scores", [gaussian(), gaussian(outliers=7), gaussian().exp(), gaussian().round()])
def test_otsu_is_the_best_of_all_splits(scores):
    assert otsu(scores)[0].tolist() == slow_otsu(scores[0]).tolist()


def test_otsu_by_hand():
    assert otsu(torch.tensor([[0.0, 1.0, 2.0, 10.0, 11.0]])).tolist() == [[False, False, False, True, True]]


def test_mad_by_hand():
    # Median 3, deviations 2 1 0 1 97, their median 1: the line is at 3 + 3.5 * 1.4826 = 8.19.
    assert mad(torch.tensor([[1.0, 2.0, 3.0, 4.0, 100.0]])).tolist() == [[False] * 4 + [True]]
    assert mad(torch.tensor([[1.0, 2.0, 3.0, 4.0, 8.1]])).sum() == 0


def test_mad_of_mostly_equal_scores_takes_the_mean_deviation():
    scores = torch.ones(1, 100)
    assert not mad(scores).any()
    scores[0, 3] = 9.0
    assert mad(scores).nonzero().tolist() == [[0, 3]]


def test_mixture_agrees_with_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    scores = torch.cat([torch.randn(150, generator=generator), 6 + 2 * torch.randn(50, generator=generator)]).double()
    reference = GaussianMixture(2, random_state=0, tol=1e-8, max_iter=1000).fit(scores[:, None].numpy())
    upper = reference.predict(scores[:, None].numpy()) == reference.means_[:, 0].argmax()
    expected = upper & (scores.numpy() > reference.means_.min())
    assert mixture(scores[None])[0].tolist() == expected.tolist()


def test_knee_by_hand():
    # Falling curve 10 9 1 0.5 0: below the chord by 0, -0.15, 0.4, 0.2, 0; the knee is at 1.
    assert knee(torch.tensor([[0.5, 10.0, 1.0, 9.0, 0.0]])).tolist() == [[False, True, False, True, False]]
    assert not knee(torch.arange(50.0)[None].double()).any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [1, 4, 10, 29, 35])
def test_planted_outliers_are_marked(rule, count):
    scores = gaussian(3, count, seed=count)
    mask = Adaptive(detector="first", rule=rule).mark(scores.float())
    expected = torch.zeros(196, dtype=torch.bool)
    expected[5 : 5 + count] = True
    assert torch.equal(mask, expected.expand(3, -1))
    # 196 Gaussian scores have one above 3.5 spreads now and then; and the knee lies below the foot of the step. Without
    # the gap these are marked as well.
    mask = Adaptive(detector="first", rule=rule, gap=0).mark(scores.float())
    assert (mask & expected).sum() == 3 * count
    assert (mask & ~expected).sum(dim=1).max() <= {"mad": 1, "knee": 6}.get(rule, 0)


@pytest.mark.parametrize("rule", RULES)
def test_without_outliers_few_or_none_are_marked(rule):
    detector = Adaptive(detector="first", rule=rule)
    generator = torch.Generator().manual_seed(0)
    # One population, also with a tail to the right: exponential scores, and squares of Gaussian ones.
    tails = torch.empty(50, 196).exponential_(generator=generator), torch.randn(50, 196, generator=generator).square()
    for scores in (gaussian(50), torch.rand(50, 196, generator=generator), *tails):
        marked = detector.mark(scores.float()).sum(dim=1)
        assert (marked > 0).float().mean() <= 0.2
        assert marked.max() <= 1
    assert not detector.mark(torch.full((2, 196), 3.3)).any()


def test_without_the_guard_a_gaussian_is_cut_in_half():
    loose = Adaptive(detector="first", separation=0, gap=0, most=1)
    assert loose.mark(gaussian(10).float()).sum() > 300
    assert not replace(loose, most=0.25).mark(gaussian(10).float()).any()
    assert not replace(loose, gap=5).mark(gaussian(10).float()).any()
    assert not replace(loose, separation=5).mark(gaussian(10).float()).any()


def test_the_lowest_wide_gap_among_the_marked_is_the_line_by_hand():
    # Median 4, deviations from it 0 0.5 1 1 2 2 3 4 36 41 96, their median 2: the spread is 2.97. The gaps below 40, 45
    # and 100 are 34, 5 and 55 wide, or 11.5, 1.7 and 18.5 spreads.
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 40.0, 45.0, 100.0, 0.0, 3.5]]).double()
    marked = scores > 5.5
    assert above_gap(scores, marked, 5.0)[0].nonzero().flatten().tolist() == [6, 7, 8]
    # A gap below all that is marked does not count.
    assert above_gap(scores, marked, 12.0)[0].nonzero().flatten().tolist() == [8]
    assert not above_gap(scores, marked, 20.0).any()
    assert above_gap(scores, scores > 42, 5.0)[0].nonzero().flatten().tolist() == [8]
    assert not above_gap(torch.ones(2, 5).double(), torch.ones(2, 5, dtype=torch.bool), 5.0).any()
    assert not above_gap(torch.ones(1, 1).double(), torch.ones(1, 1, dtype=torch.bool), 5.0).any()


@pytest.mark.parametrize("rule", RULES)
def test_more_than_the_greatest_share_is_none(rule):
    scores = gaussian(1, 49, seed=49).float()
    assert Adaptive(detector="first", rule=rule).mark(scores).sum() == 49
    assert not Adaptive(detector="first", rule=rule).mark(gaussian(1, 50, seed=50).float()).any()
    assert Adaptive(detector="first", rule=rule, most=0.5).mark(gaussian(1, 50, seed=50).float()).sum() == 50


@pytest.mark.parametrize("rule", RULES)
def test_the_logarithm_tames_a_heavy_tail(rule):
    heavy = (gaussian(20) - 10).mul(1.5).exp().float()
    plain = Adaptive(detector="first", rule=rule).mark(heavy).sum()
    logs = Adaptive(detector="first", rule=rule, log=True).mark(heavy)
    assert logs.sum(dim=1).max() <= 2
    assert logs.sum() < plain
    heavy[:, 9] = 1e15
    heavy[:, 10] = 0.0
    assert Adaptive(detector="first", rule=rule, log=True).mark(heavy)[:, 9].all()


@pytest.mark.parametrize("rule", RULES)
def test_each_image_has_its_own_threshold_and_damage_stays_in_its_image(rule):
    scores = torch.cat([gaussian(1, 4), 1000 * gaussian(1, 4, seed=1), gaussian(1, 4, seed=2)]).float()
    detector = Adaptive(detector="first", rule=rule)
    whole = detector.mark(scores)
    for number in range(3):
        assert torch.equal(detector.mark(scores[number : number + 1])[0], whole[number])
    scores[1, 100] = torch.nan
    damaged = detector.mark(scores)
    assert not damaged[1].any()
    assert torch.equal(damaged[[0, 2]], whole[[0, 2]])


def test_an_infinite_score_counts_as_the_largest_finite_one():
    scores = gaussian(1, 4).float()
    scores[0, 50] = torch.inf
    scores[0, 51] = -torch.inf
    mask = Adaptive(detector="first").mark(scores)[0]
    assert mask.nonzero().flatten().tolist() == [5, 6, 7, 8, 50]


def test_scores_needs_and_reasons_are_the_inner_detectors(recording_of):
    detector = Registry("detector", {"adaptive": Adaptive}).build("adaptive:detector=first,rule=mad")
    tokens = gaussian(2, 4)[..., None].float()
    outliers = detector(recording_of(block_out=tokens), SQUARE)
    assert torch.equal(outliers.scores, tokens[..., 0])
    assert outliers.mask[:, 5:9].all()
    assert detector.needs == ("block_out",)
    assert detector.unsupported_reason(Layout(0, Grid(1, 1))) == "one patch is too few"
    assert not detector.quota


def test_fitting_fits_the_inner_detector(tiny, images):
    fitted = Adaptive(detector="first").fitted(tiny, images, 7)
    assert fitted.inner == FirstChannel(threshold=7)
    assert Adaptive(detector="first").inner == FirstChannel()


def test_unknown_names_and_rules_are_refused():
    with pytest.raises(UnknownName, match="there is no detector `furst`"):
        _ = Adaptive(detector="furst").needs
    with pytest.raises(ValueError, match="`rule` should be one of otsu, mad, mixture, knee"):
        Adaptive(rule="ostu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`gap` should be at least 0"):
        Adaptive(gap=-1)
    with pytest.raises(ValueError, match="`most` should be a share"):
        Adaptive(most=0)
    with pytest.raises(ValueError, match="`separation` should be at least 0"):
        Adaptive(separation=float("nan"))
    with pytest.raises(ValueError, match="`detector` should name another detector"):
        Adaptive(detector="adaptive")
    with pytest.raises(ValueError, match="`detector` should name another detector"):
        Adaptive(detector="adaptive(rule=mad)")


def test_the_inner_detector_may_carry_its_own_settings():
    adaptive = Registry("detector", {"adaptive": Adaptive}).build("adaptive:detector=first(threshold=3.5),rule=mad")
    assert adaptive.inner == FirstChannel(threshold=3.5)
    assert adaptive.rule == "mad"
