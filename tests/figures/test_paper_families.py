"""Grids of maps, panels of bars, curves over a setting, landscapes, scatter and named ROC: their artists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from figures.bar_panels import bar_panels
from figures.cell_grid import Cell, cell_grid
from figures.landscape import landscape
from figures.named_roc import named_roc
from figures.setting_curves import setting_curves
from figures.side_by_side import curves_side_by_side
from figures.token_scatter import principal_plane, token_scatter

MAP = np.arange(6.0).reshape(2, 3)


def test_maps_of_a_row_share_one_scale_and_one_bar():
    figure = cell_grid({"a": [Cell(values=MAP), Cell(values=10 * MAP)]})
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert [image.norm.vmax for image in images] == [50.0, 50.0]
    assert sum(axes.get_label() == "colour bar" for axes in figure.axes) == 1


def test_maps_that_are_not_shared_have_a_bar_each():
    figure = cell_grid({"a": [Cell(values=MAP, log=False), Cell(values=10 * MAP, log=False)]}, shared=False)
    images = [axes.images[0] for axes in figure.axes if axes.get_label().startswith("a")]
    assert [image.norm.vmax for image in images] == [5.0, 50.0]
    assert sum(axes.get_label() == "colour bar" for axes in figure.axes) == 2


def test_a_star_stands_at_the_query_patch_of_a_map_and_of_a_picture():
    picture = np.zeros((20, 30, 3), np.uint8)
    figure = cell_grid({"a": [Cell(values=MAP, stars=[(1, 2)]), Cell(values=picture, grid=(2, 3), stars=[(1, 2)])]})
    places = [(line.get_xdata()[0], line.get_ydata()[0]) for axes in figure.axes for line in axes.lines]
    assert places == [(2, 1), (2, 1)]


def test_a_grid_without_cells_is_refused():
    with pytest.raises(ValueError, match="at least one cell"):
        cell_grid({"a": [None]})


def test_bars_have_the_heights_of_the_table():
    table = pd.DataFrame({"X_res": [2.0, 3.0], "X_attn": [1.0, 4.0]}, index=["q-k", "q-q"])
    (axes,) = bar_panels({"norm": table}).axes
    assert sorted(bar.get_height() for bar in axes.patches) == [1.0, 2.0, 3.0, 4.0]
    assert axes.get_ylabel() == "norm"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["q-k", "q-q"]


def test_curves_over_a_wide_setting_have_a_log_axis_and_a_line_for_each_column():
    table = pd.DataFrame({"q-k": [1.0, 2.0, 3.0], "q-q": [2.0, 3.0, 4.0]}, index=[0.1, 1.0, 100.0])
    (axes,) = setting_curves(table, xlabel="alpha", ylabel="mIoU").axes
    assert axes.get_xscale() == "log"
    assert [line.get_label() for line in axes.lines] == ["q-k", "q-q"]
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [2.0, 3.0, 4.0])


def test_a_landscape_tells_every_number_and_the_best_in_bold():
    table = pd.DataFrame({2: [1.0, 2.0], 3: [4.0, 3.0]}, index=[0.5, 0.7])
    axes = landscape(table, xlabel="min_samples", ylabel="eps", value="mIoU", digits=0).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1", "4", "2", "3"]
    assert [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"] == ["4"]


def test_the_principal_plane_of_points_on_a_line_is_that_line():
    plane, shares = principal_plane(np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]))
    np.testing.assert_allclose(np.abs(plane), [[5, 0], [0, 0], [5, 0]], atol=1e-9)
    np.testing.assert_allclose(shares, [1, 0], atol=1e-9)


def test_a_scatter_parts_outliers_from_patches_and_the_class_token():
    tokens = np.random.default_rng(0).normal(size=(6, 4))
    axes = token_scatter(tokens, np.arange(6) == 2, tokens[0] + 1).axes[0]
    counts = {line.get_label(): len(line.get_xdata()) for line in axes.lines[:3]}
    assert counts == {"patch": 5, "outlier": 1, "class token": 1}


def test_the_legend_of_named_curves_has_the_area_under_each():
    curve = (np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    axes = named_roc({"perfect": curve}).axes[0]
    assert axes.lines[1].get_label() == "1.00  perfect"


def test_backbones_stand_side_by_side_on_one_value_axis():
    def made(top):
        values = xr.DataArray([[1.0, top]], dims=("image", "layer"), coords={"layer": [1, 2]}, name="entropy")
        return xr.Dataset({"entropy": values})

    axes = curves_side_by_side({"one": made(2.0), "two": made(9.0)}, "entropy", log=False).axes
    assert [one.get_title(loc="left") for one in axes] == ["one", "two"]
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert [list(one.lines[0].get_ydata()) for one in axes] == [[1.0, 2.0], [1.0, 9.0]]
