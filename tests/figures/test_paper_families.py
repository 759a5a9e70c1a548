"""Grids of maps, panels of bars, curves over a setting, landscapes, scatter and named ROC: their artists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.patches import Patch

from figures.curves.named_roc import named_roc
from figures.curves.setting_curves import apart, setting_curves
from figures.curves.side_by_side import channels_side_by_side, curves_side_by_side
from figures.maps.cell_grid import Cell, cell_grid
from figures.maps.token_scatter import principal_plane, token_scatter
from figures.tables.bar_panels import bar_panels
from figures.tables.landscape import landscape

MAP = np.arange(6.0).reshape(2, 3)


def test_maps_of_a_row_share_one_scale_and_one_bar():
    figure = cell_grid({"a": [Cell(values=MAP), Cell(values=10 * MAP)]})
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert [image.norm.vmax for image in images] == [50.0, 50.0]
    assert sum(axes.get_label() == "color bar" for axes in figure.axes) == 1


def test_maps_that_are_not_shared_have_a_bar_each():
    figure = cell_grid({"a": [Cell(values=MAP, log=False), Cell(values=10 * MAP, log=False)]}, shared=False)
    images = [axes.images[0] for axes in figure.axes if axes.get_label().startswith("a")]
    assert [image.norm.vmax for image in images] == [5.0, 50.0]
    assert sum(axes.get_label() == "color bar" for axes in figure.axes) == 2


def test_a_star_stands_at_the_query_patch_of_a_map_and_of_a_image():
    image = np.zeros((20, 30, 3), np.uint8)
    figure = cell_grid({"a": [Cell(values=MAP, stars=[(1, 2)]), Cell(values=image, grid=(2, 3), stars=[(1, 2)])]})
    places = [(line.get_xdata()[0], line.get_ydata()[0]) for axes in figure.axes for line in axes.lines]
    assert places == [(2, 1), (2, 1)]


def test_heads_stand_once_over_rows_that_have_the_same():
    cells = [Cell(values=MAP, head="norm"), Cell(values=MAP, head="features")]
    other = [Cell(values=MAP, head="attention"), Cell(values=MAP, head="features")]
    shown = [text.get_text() for text in cell_grid({"a": cells, "b": cells, "c": other}).texts]
    assert [shown.count(head) for head in ("norm", "attention", "features")] == [1, 1, 2]
    assert [shown.count(name) for name in "abc"] == [1, 1, 1]


def test_limits_are_the_ends_of_every_scale():
    for shared in (True, False):
        figure = cell_grid({"a": [Cell(values=MAP + 0.1), Cell(values=MAP)]}, shared=shared, limits=(0, 8))
        ends = {(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in figure.axes if axes.images}
        assert ends == {(0, 8)}


def test_a_legend_says_what_colors_of_images_mean():
    image = np.zeros((4, 6, 3), np.uint8)
    figure = cell_grid({"a": [Cell(values=image)]}, legend=[Patch(color="red", label="tiger")], note="a note")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["tiger"]
    figure.canvas.draw()
    note = next(text for text in figure.texts if text.get_text() == "a note")
    assert figure.legends[0].get_window_extent().y1 <= note.get_window_extent().y0


def test_marked_patches_of_a_image_are_tinted_and_outlined():
    marked = np.zeros((2, 3), bool)
    marked[0, 1] = True
    (axes,) = cell_grid({"a": [Cell(values=np.zeros((20, 30, 3), np.uint8), grid=(2, 3), marked=marked)]}).axes
    tint = np.asarray(axes.images[1].get_array())
    assert (tint[..., 3] > 0).tolist() == marked.tolist()
    assert axes.images[1].get_extent() == axes.images[0].get_extent()
    assert len(axes.collections[0].get_segments()) == 4


def test_a_grid_without_cells_is_refused():
    with pytest.raises(ValueError, match="at least one cell"):
        cell_grid({"a": [None]})


def test_bars_have_the_heights_of_the_table():
    table = pd.DataFrame({"X_res": [2.0, 3.0], "X_attn": [1.0, 4.0]}, index=["q-k", "q-q"])
    (axes,) = bar_panels({"norm": table}).axes
    assert sorted(bar.get_height() for bar in axes.patches) == [1.0, 2.0, 3.0, 4.0]
    assert axes.get_ylabel() == "norm"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["q-k", "q-q"]


def test_panels_with_one_label_share_axis_and_legend_and_are_named_above():
    table = pd.DataFrame({"a": [2.0, 3.0], "b": [1.0, 4.0]}, index=["q-k", "q-q"])
    figure = bar_panels({"one": table, "two": 10 * table}, ylabel="mIoU, per cent", xlabel="kind")
    left, right = figure.axes
    assert [axes.get_title(loc="left") for axes in (left, right)] == ["one", "two"]
    assert [axes.get_ylabel() for axes in (left, right)] == ["mIoU, per cent", ""]
    assert left.get_ylim() == right.get_ylim()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert left.get_legend() is None


def test_the_third_panel_of_bars_starts_a_row():
    table = pd.DataFrame({"a": [2.0, 3.0]}, index=["q-k", "q-q"])
    figure = bar_panels(dict.fromkeys("xyz", table))
    figure.canvas.draw()
    first, second, third = (axes.get_position() for axes in figure.axes)
    assert first.y0 == pytest.approx(second.y0)
    assert third.y1 < first.y0
    assert third.x0 == pytest.approx(first.x0)


def test_a_panel_of_more_groups_is_wider():
    few, many = (pd.DataFrame({"a": np.arange(1.0, count + 1)}) for count in (1, 9))
    figure = bar_panels({"few": few, "many": many}, ylabel="mIoU")
    figure.canvas.draw()
    narrow, wide = (axes.get_position().width for axes in figure.axes)
    assert wide == pytest.approx(3 * narrow, rel=0.05)


def test_numbers_of_settings_do_not_touch():
    assert apart(np.array([1.0, 1.02, 2.0, 10.0]), log=False, least=0.05) == [1.0, 2.0, 10.0]
    assert apart(np.array([1.0, 1.5, 1.6, 100.0]), log=True, least=0.08) == [1.0, 1.5, 100.0]
    assert apart(np.array([3.0]), log=True) == [3.0]


def test_many_settings_have_round_ticks_that_are_few():
    table = pd.DataFrame({"f1": np.linspace(0, 1, 40)}, index=np.geomspace(0.5, 100, 40))
    figure = setting_curves(table, xlabel="threshold", ylabel="share")
    figure.canvas.draw()
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert 2 <= len(shown) <= 7
    assert {"1", "10", "100"} <= set(shown)


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
    assert [panel.get_title(loc="left") for panel in axes] == ["one", "two"]
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert [list(panel.lines[0].get_ydata()) for panel in axes] == [[1.0, 2.0], [1.0, 9.0]]


def test_channel_means_of_two_backbones_share_the_value_axis():
    def made(values):
        data = xr.DataArray(
            [[values]], dims=("image", "layer", "channel"), coords={"layer": [1]}, name="channel_mean",
            attrs={"units": "1", "long_name": "channel mean"},
        )  # fmt: skip
        return xr.Dataset({"channel_mean": data})

    axes = channels_side_by_side({"one": made([0.1, -0.5, 1.0]), "two": made([-2.0, 0.0, 0.1])}).axes
    assert axes[0].get_ylim() == axes[1].get_ylim()
    assert [bool(panel.get_ylabel()) for panel in axes] == [True, False]


@pytest.mark.parametrize(("center", "drawn"), [("median", [1.0, 2.0]), ("mean", [2.0, 5.0])])
def test_curves_side_by_side_say_whether_they_are_means_and_of_how_many_images(center, drawn):
    values = xr.DataArray(
        [[1.0, 2.0], [1.0, 2.0], [4.0, 11.0]], dims=("image", "layer"), coords={"layer": [1, 2]}, name="peak"
    )
    figure = curves_side_by_side({"one": xr.Dataset({"peak": values})}, "peak", log=False, center=center)
    assert f"{center} of 3 images" in figure.axes[0].get_xlabel()
    assert list(figure.axes[0].lines[0].get_ydata()) == drawn
