"""Where outliers begin, or that they do not."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import xarray as xr

from diagnostics.backbones import load_backbone
from diagnostics.studies import summary
from diagnostics.studies.probe import probe
from diagnostics.studies.summary import first_outlier_layer


def run(ratios, layers):
    return xr.Dataset({"norm_ratio": (("image", "layer"), np.array(ratios, float))}, {"layer": layers})


def test_the_first_layer_is_that_of_half_the_images():
    dataset = run([[1, 9, 2, 9], [1, 2, 9, 9], [1, 2, 9, 9]], [3, 5, 8, 11])
    assert first_outlier_layer(dataset) == 8
    assert first_outlier_layer(dataset, ratio=1.5) == 5
    assert first_outlier_layer(dataset.transpose("layer", "image")) == 8
    assert first_outlier_layer(dataset.isel(layer=[3, 2])) == 8


def test_a_clean_model_has_none():
    assert first_outlier_layer(run([[1, 3], [2, 3]], [1, 2])) is None  # 3 is not above 3
    assert first_outlier_layer(run([[np.nan, 1]], [1, 2])) is None


def test_a_run_without_norms_or_images_is_refused():
    with pytest.raises(ValueError, match="measure `norms`"):
        first_outlier_layer(run([[1]], [1]).drop_vars("norm_ratio"))
    with pytest.raises(ValueError, match="no measured images"):
        first_outlier_layer(run(np.empty((0, 1)), [1]))


def test_written_outliers_begin_where_they_are_written(half_plain):
    dataset = probe(load_backbone("tiny:outliers=true"), half_plain, measures=["norms"])
    assert first_outlier_layer(dataset) == 6
    assert first_outlier_layer(probe(load_backbone("tiny"), half_plain, measures=["norms"])) is None


def test_the_example_runs():
    results = doctest.testmod(summary)
    assert results.attempted > 2
    assert results.failed == 0
