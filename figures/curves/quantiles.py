"""Medians, quartiles and means that pass over missing values in silence."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Literal

import numpy as np
import xarray as xr

Center = Literal["median", "mean"]


def quantile(measurement: xr.DataArray, q: float, over: Collection[str]) -> xr.DataArray:
    """The `q` quantile over those of the dims that are there, in float64; NaN where nothing was measured.

    Counts have no NaN: there, a negative number says that nothing was counted.
    """
    dims = [dim for dim in measurement.dims if dim in over]
    measured = measurement.compute()
    values = measured.astype("float64")
    if np.issubdtype(measured.dtype, np.integer):
        values = values.where(measured >= 0)
    if not dims:
        return values
    if any(values.sizes[dim] == 0 for dim in dims):
        return xr.full_like(values.sum(dims, keep_attrs=True), float("nan"))
    with warnings.catch_warnings():
        # A layer without values is no accident here: a NaN in the curve says it.
        warnings.simplefilter("ignore", RuntimeWarning)
        return values.quantile(q, dim=dims, skipna=True, keep_attrs=True).drop_vars("quantile")


def median(measurement: xr.DataArray, over: Collection[str]) -> xr.DataArray:
    """The median over those of the dims that are there; NaN where nothing was measured."""
    return quantile(measurement, 0.5, over)


def mean(measurement: xr.DataArray, over: Collection[str]) -> xr.DataArray:
    """The mean over those of the dims that are there, in float64; NaN where nothing was measured, as of `quantile`."""
    dims = [dim for dim in measurement.dims if dim in over]
    values = quantile(measurement, 0.5, ())
    if not dims:
        return values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return values.mean(dims, skipna=True, keep_attrs=True)


def center_of(measurement: xr.DataArray, over: Collection[str], center: Center) -> xr.DataArray:
    """The median or the mean over those of the dims that are there."""
    if center not in ("median", "mean"):
        raise ValueError(f"`center` should be `median` or `mean`; got `{center}`.")
    return median(measurement, over) if center == "median" else mean(measurement, over)


def median_keeping(measurement: xr.DataArray, keep: Collection[str], *, center: Center = "median") -> xr.DataArray:
    """The median, or the mean, over all dims but these."""
    return center_of(measurement, [str(dim) for dim in measurement.dims if dim not in keep], center)
