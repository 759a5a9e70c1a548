"""Settings that are numbers: what is infinite, NaN or absurd is refused wherever it would make NaN of results."""

import math
import re

import pytest

from diagnostics.check_numbers import check_finite_number, check_iterations, check_not_negative, check_positive
from diagnostics.detectors import DETECTORS
from diagnostics.edits import EDITS
from diagnostics.measures import MEASURES
from diagnostics.purifiers import PURIFIERS
from segment.decoding.masks import MASKS
from segment.decoding.refine import REFINERS
from segment.method import Decode
from segment.methods import METHODS

NONE = [math.inf, -math.inf, math.nan, 1e308, -1.0]
POSITIVE = [
    (MEASURES, "norms", "ratio"),
    (MEASURES, "massive", "ratio"),
    (MEASURES, "massive", "absolute"),
    (DETECTORS, "massive", "ratio"),
    (DETECTORS, "massive", "absolute"),
    (DETECTORS, "lof", "threshold"),
    (DETECTORS, "knn", "threshold"),
    (DETECTORS, "mahalanobis", "threshold"),
    (DETECTORS, "som-release", "factor"),
    (DETECTORS, "register-neuron", "ratio"),
    (DETECTORS, "register-neuron", "norm"),
    (PURIFIERS, "clip-channels", "ratio"),
    (PURIFIERS, "low-pass", "sigma"),
    (MASKS, "dbscan", "eps"),
]


@pytest.mark.parametrize("value", NONE)
@pytest.mark.parametrize("registry, name, field", POSITIVE)
def test_a_part_refuses_what_is_no_positive_number(registry, name, field, value):
    with pytest.raises(ValueError, match=rf"`{field}` should be (above|at least) 0.*got {re.escape(str(value))}"):
        registry[name](**{field: value})
    assert getattr(registry[name](**{field: 2.5}), field) == 2.5


@pytest.mark.parametrize("value", [*NONE, 0.0, 1e-300])
def test_a_scale_that_would_make_nan_is_refused(value):
    with pytest.raises(ValueError, match=r"`scale` should be above 0 .*such as 40; got"):
        Decode(scale=value)


@pytest.mark.parametrize(
    "spec",
    [
        "clip:gaussian=1e308",
        "clip:gaussian=1e-300",
        "clip:gaussian=nan",
        "clip:alpha=1e308",
        "clip:scale=inf",
        "gem:iterations=99999999",
        "gem:inverse-temperature=1e308",
        "sfp-paper:iterations=99999999",
        "sc-clip:gate-scale=inf",
        "sc-clip:similarity-weight=1e308",
        "proxyclip:gamma=1e308",
        "proxyclip:beta=-1e308",
    ],
)
def test_methods_refuse_settings_that_make_nan_or_never_end(spec):
    field = spec.partition(":")[2].partition("=")[0]
    with pytest.raises(ValueError, match=rf"`{field.replace('-', '_')}`.* should be"):
        METHODS.build(spec)


def test_rounds_of_a_refiner_have_an_end():
    with pytest.raises(ValueError, match="`iterations` should be at least 0 and at most 1000"):
        REFINERS.build("pamr:iterations=99999999")


def test_an_edit_without_its_setting_is_named():
    with pytest.raises(ValueError, match="edit `plant` should be given `vector`"):
        EDITS.build("plant")
    with pytest.raises(ValueError, match="`alpha` should be a finite number"):
        EDITS["scale-residual"](alpha=math.inf)


def test_bounds_themselves_pass():
    check_positive("a", 1e30)
    check_positive("a", 1e-15)
    check_positive("a", 3, upper=3)
    check_not_negative("a", 0)
    check_finite_number("a", -1e30)
    check_iterations("a", 1000)
    outside = [(check_positive, 0), (check_not_negative, -1e-9), (check_iterations, 1001), (check_iterations, -1)]
    for check, value in outside:
        with pytest.raises(ValueError, match="`a` should be"):
            check("a", value)
    with pytest.raises(ValueError, match=r"1e-15 to 3\), such as 2; got 3\.1"):
        check_positive("a", 3.1, upper=3, hint="such as 2")
