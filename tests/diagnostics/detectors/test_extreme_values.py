"""What every detector answers where tokens are huge, equal or zero: finite scores, and what its docstring says."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch

from diagnostics.detectors import DETECTORS
from diagnostics.detectors.lof import LocalOutlierFactor
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.detectors.pyod import MISSING
from diagnostics.detectors.self_correlation import SelfCorrelation
from diagnostics.detectors.som import Som
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording

LAYOUT = Layout(1, Grid(8, 12))
WIDTH, HEADS = 64, 2
LONE = 5
LEARNED = {
    "register-neuron": {"neurons": ((1, 3),), "levels": ((0.8, 6.0),)},
    "profile": {"line": 3.0, "facts": {"detector": "relative-norm"}},
    "auto": {"line": 3.0},
    "singular-defect": {"direction": tuple(float(channel == 7) for channel in range(WIDTH))},
}
NAMES = [name for name in DETECTORS if name != "pyod" or DETECTORS.build("pyod").unsupported_reason(LAYOUT) != MISSING]
SPECS = [
    *NAMES,
    "self-correlation:weights=softmax",
    "self-correlation:weights=inner-product",
    "som:compare=difference",
    *(f"adaptive:rule={rule}" for rule in ("mad", "mixture", "knee")),
]
# By norm, by distance, or by a share of a norm: a patch of 1e30 is the furthest out there is.
FIND_A_LONE_ONE = (
    "norm",
    "relative-norm",
    "norm-topk",
    "massive",
    "lof",
    "lof-release",
    "knn",
    "mahalanobis",
    "adaptive",
)

SCALE_FREE = (
    *("relative-norm", "channel-peak", "lof", "lof-release", "knn", "mahalanobis", "adaptive", "singular-defect"),
    *("class-residual", "self-correlation"),
)


def ready(spec):
    return replace(DETECTORS.build(spec), **LEARNED.get(spec.partition(":")[0], {}))


def layer(size=1.0, kind="scaled"):
    generator = torch.Generator().manual_seed(0)
    values = {}
    for name in ("block_out", "ffn_hidden", "query", "key", "value"):
        heads = name in ("query", "key", "value")
        shape = (2, HEADS, LAYOUT.tokens, WIDTH // HEADS) if heads else (2, LAYOUT.tokens, WIDTH)
        value = torch.randn(*shape, generator=generator)
        if kind == "equal":
            value = value[..., :1, :].expand(shape).clone()
        elif kind == "zero":
            value = torch.zeros(shape)
        elif kind == "lone":
            value[..., LAYOUT.prefix + LONE, :] *= 1e30
        values[name, 1] = value * size
    return Recording(1, values)


@pytest.mark.parametrize(
    "kind, size", [("scaled", 1e25), ("scaled", 1e-25), ("lone", 1.0), ("equal", 1.0), ("zero", 1.0)]
)
@pytest.mark.parametrize("spec", SPECS)
def test_scores_are_finite_at_huge_lone_equal_and_zero_tokens(spec, kind, size):
    scores, mask = ready(spec)(layer(size, kind), LAYOUT)
    assert scores.isfinite().all()
    assert mask.dtype == torch.bool
    if kind == "lone" and spec.partition(":")[0] in FIND_A_LONE_ONE:
        assert mask[:, LONE].all()
        assert (scores.argmax(dim=1) == LONE).all()
    if kind in ("equal", "zero") and not ready(spec).quota:
        # Rounding decides where a tie is the line.
        exact = spec.partition(":")[0] not in ("som", "som-release", "self-correlation", "isolation-forest")
        assert not exact or set(mask.sum(dim=1).tolist()) <= {0, LAYOUT.count}


@pytest.mark.parametrize("spec", SCALE_FREE)
@pytest.mark.parametrize("size", [1e25, 1e-15])
def test_ratios_and_cosines_know_no_scale(spec, size):
    detector = ready(spec)
    plain, scaled = (detector(layer(scale), LAYOUT) for scale in (1.0, size))
    if spec.startswith("lof") and size < 1:
        return  # copies are recognized by an absolute distance there, scikit-learn's and ours
    torch.testing.assert_close(scaled.scores, plain.scores, rtol=1e-3, atol=1e-3)
    assert torch.equal(scaled.mask, plain.mask)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_docstring_says_what_extreme_values_and_bf16_do(name):
    text = " ".join(inspect.getdoc(DETECTORS[name]).split())
    assert "Extreme values: " in text
    assert "In bf16 " in text


@pytest.mark.parametrize("spec", SPECS)
def test_tokens_in_bf16_are_scored_in_fp32(spec):
    detector = ready(spec)
    half = Recording(1, {key: value.bfloat16() for key, value in layer().values.items()})
    full = Recording(1, {key: value.float() for key, value in half.values.items()})
    scores, mask = detector(half, LAYOUT)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, detector.score(full, LAYOUT))
    assert torch.equal(mask, detector(full, LAYOUT).mask)


@pytest.mark.parametrize("detector", [LocalOutlierFactor(), LofRelease()])
def test_a_patch_beside_copies_has_a_bounded_score(detector):
    tokens = torch.ones(1, LAYOUT.tokens, WIDTH)
    tokens[0, LAYOUT.prefix + LONE] = 100.0
    scores = detector.score(Recording(1, {("block_out", 1): tokens}), LAYOUT)
    assert scores.max() <= 1e12
    assert scores[0].argmax() == LONE
    assert scores[0, LONE] > 1e9


def test_a_patch_that_never_attends_to_itself_has_a_bounded_ratio():
    query = torch.zeros(1, 1, LAYOUT.tokens, 4)
    key = torch.zeros(1, 1, LAYOUT.tokens, 4)
    query[0, 0, LAYOUT.prefix + LONE, 0] = 300.0  # looks away from itself
    key[0, 0, LAYOUT.prefix + LONE, 0] = -2.0
    scores = Som().score(Recording(1, {("query", 1): query, ("key", 1): key}), LAYOUT)
    assert scores[0, LONE] == 1e6
    assert Som().mark(scores)[0].nonzero().flatten().tolist() == [LONE]


def test_inner_products_beyond_1e36_count_as_that():
    scores = SelfCorrelation(weights="inner-product").score(layer(1e25), LAYOUT)
    plain = SelfCorrelation(weights="inner-product").score(layer(), LAYOUT)
    assert torch.equal(scores.sign(), plain.sign())
    assert scores.min().item() == pytest.approx(-1e36)
