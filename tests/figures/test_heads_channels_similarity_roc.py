import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import LogNorm

from figures import attention_heads, channel_heatmap, channel_means, layer_similarity, roc_curves
from figures.curves.roc import area_under, curve_of, telling_layers
from figures.maps.channels import top_channels


def tick_texts(axis_labels):
    return [label.get_text() for label in axis_labels]


def bar_of(figure):
    return next(ax for ax in figure.axes if ax.get_label() == "color bar")


def test_heads_are_rows_and_layers_are_columns(probed):
    figure = attention_heads(probed, "attention_distance", title="a model")
    ax = figure.axes[0]
    expected = probed["attention_distance"].median("image").transpose("head", "layer")
    assert np.allclose(ax.images[0].get_array(), expected)
    assert tick_texts(ax.get_xticklabels()) == [str(layer) for layer in range(1, 13)]
    assert tick_texts(ax.get_yticklabels()) == [str(head) for head in range(1, 7)]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer", "head")
    assert ax.get_title(loc="left") == "mean attention distance (pixel)"
    assert figure.get_suptitle() == "a model"


def test_heads_of_a_wide_range_have_a_log_scale(probed):
    probed["stripe_contrast"] = probed["stripe_contrast"] * (1 + 99 * (probed["layer"] > 8))
    ax = attention_heads(probed, "stripe_contrast").axes[0]
    assert isinstance(ax.images[0].norm, LogNorm)
    assert "log scale" in ax.get_title(loc="left")


def test_the_first_variable_of_heads_that_is_there_is_drawn(probed):
    figure = attention_heads(probed.drop_vars("attention_entropy"))
    assert figure.axes[0].get_title(loc="left").startswith("largest over median received attention")
    with pytest.raises(ValueError, match="`entropy`"):
        attention_heads(probed, "entropy")
    with pytest.raises(ValueError, match="`unknown`"):
        attention_heads(probed, "unknown")


def test_maps_of_heads_are_reduced_to_one_number_a_head(probed):
    ax = attention_heads(probed, "self_attention").axes[0]
    assert ax.images[0].get_array().shape == (6, 12)


def test_the_numbers_of_a_color_bar_differ_even_in_a_narrow_range(probed):
    probed["attention_entropy"] = 4.0 + 1e-3 * probed["attention_entropy"]
    figure = attention_heads(probed, "attention_entropy")
    figure.canvas.draw()
    labels = tick_texts(bar_of(figure).get_yticklabels())
    assert len(set(labels)) == 3


def test_layer_similarity_runs_from_zero_to_one_with_layer_one_at_the_bottom_left(probed):
    ax = layer_similarity(probed).axes[0]
    (image,) = ax.images
    assert np.allclose(image.get_array(), probed["layer_cka"].median("image"))
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    bottom, top = ax.get_ylim()
    assert bottom < top
    assert tick_texts(ax.get_yticklabels())[0] == "1"
    assert ax.get_title(loc="left") == "linear CKA of the tokens of two layers"


def test_channel_means_are_averaged_over_images_and_ascend(probed):
    figure = channel_means(probed, layers=[1, -1])
    ax = figure.axes[0]
    assert tick_texts(ax.get_legend().get_texts()) == ["layer 1", "layer 12"]
    expected = np.sort(probed["channel_mean"].sel(layer=12).mean("image").values)
    assert np.allclose(ax.lines[1].get_ydata(), expected)
    assert ax.lines[1].get_xdata().tolist() == list(range(1, 49))
    assert "channel mean" in ax.get_ylabel()
    assert len(channel_means(probed).axes[0].lines) == 4


def test_a_image_that_lacks_values_takes_no_part_in_channel_means(probed):
    probed["channel_mean"][0, :, 5] = np.nan
    line = channel_means(probed, layers=[4]).axes[0].lines[0]
    expected = np.sort(probed["channel_mean"].sel(layer=4).isel(image=[1, 2]).mean("image").values)
    assert np.allclose(line.get_ydata(), expected)


def test_top_channels_come_with_their_numbers_the_largest_first(probed):
    figure = channel_heatmap(probed, count=3)
    ax = figure.axes[0]
    peaks = probed["channel_peak"].median("image")
    order = np.argsort(-peaks.max("layer").values)[:3]
    assert order[0] == 11
    assert tick_texts(ax.get_yticklabels()) == [str(number) for number in order]
    drawn = ax.images[0].get_array()
    assert np.allclose(drawn, np.maximum(peaks.isel(channel=order).T, ax.images[0].norm.vmin))
    assert ax.get_ylabel() == "channel"
    assert isinstance(ax.images[0].norm, LogNorm)
    with pytest.raises(ValueError, match="at least 1"):
        channel_heatmap(probed, count=0)


def test_more_channels_than_there_are_gives_all_and_those_without_a_peak_come_last():
    peaks = xr.DataArray([[1.0, np.nan, 3.0]], dims=("layer", "channel"), coords={"channel": [4, 5, 6]})
    assert top_channels(peaks, 10).tolist() == [6, 4, 5]


def test_roc_shows_the_first_the_best_and_the_last_layer_with_their_auc(probed):
    ax = roc_curves(probed).axes[0]
    areas = probed["auc_pooled"]
    best = int(areas["layer"][int(areas.argmax("layer"))])
    expected = [f"layer {layer}: AUC {float(areas.sel(layer=layer)):.2f}" for layer in (1, best, 12)]
    assert tick_texts(ax.get_legend().get_texts()) == ["chance: AUC 0.50", *expected]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("false positive rate", "true positive rate")
    assert ax.get_xlim() == (0, 1)
    assert ax.get_ylim() == (0, 1)


def test_roc_curves_rise_from_corner_to_corner_whatever_the_order_of_bins(probed):
    forwards = curve_of(probed["roc"], 7)
    backwards = curve_of(probed["roc"].isel(bin=slice(None, None, -1)), 7)
    assert np.array_equal(forwards, backwards)
    for rates in forwards:
        assert (rates[0], rates[-1]) == (0, 1)
        assert (np.diff(rates) >= 0).all()


def test_the_area_under_a_curve_is_measured_by_trapezoids():
    # (0,0) -> (0.5,1) -> (1,1): a triangle of 0.25 and a square of 0.5.
    assert area_under(np.array([0, 0.5, 1]), np.array([0, 1.0, 1])) == 0.75
    assert np.isnan(area_under(np.empty(0), np.empty(0)))


def test_the_auc_comes_from_the_curve_where_it_was_not_measured(probed):
    ax = roc_curves(probed.drop_vars("auc_pooled"), layers=[5]).axes[0]
    text = ax.get_legend().get_texts()[-1].get_text()
    assert text.startswith("layer 5: AUC ")
    assert float(text.split()[-1]) == pytest.approx(float(probed["auc_pooled"].sel(layer=5)), abs=0.011)


def test_layers_without_pairs_are_passed_over():
    assert telling_layers({1: np.nan, 2: 0.6, 3: 0.8, 4: 0.7, 5: np.nan}) == [2, 3, 4]
    assert telling_layers({1: 0.9, 2: 0.6}) == [1, 2]
    assert telling_layers({1: np.nan}) == []


def test_many_roc_layers_have_a_color_each(probed):
    ax = roc_curves(probed, layers=range(1, 13)).axes[0]
    colors = {tuple(np.atleast_1d(line.get_color())) for line in ax.lines[1:]}
    assert len(colors) == 12
    ax.figure.canvas.draw()
    # So many names have no room among the curves.
    assert ax.get_legend().get_window_extent().x0 >= ax.get_window_extent().x1
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1
