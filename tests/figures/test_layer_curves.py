import matplotlib.colors
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection

from figures import layer_curve, layer_overview
from figures.curves.layer_curves import draw_curve, draw_layer_curve, draw_norms
from figures.look import STREAM_COLORS, drawing


def panel(figure, start):
    """The panel whose title begins so."""
    return next(ax for ax in figure.axes if ax.get_title(loc="left").startswith(start))


def band(ax):
    """Lowest and highest y of the first band at each x."""
    corners = next(item for item in ax.collections if isinstance(item, PolyCollection)).get_paths()[0].vertices
    places = np.unique(corners[:, 0])
    return [(corners[corners[:, 0] == x, 1].min(), corners[corners[:, 0] == x, 1].max()) for x in places]


def test_the_line_is_the_median_of_images_and_the_band_its_quartiles():
    values = xr.DataArray([[1.0, 10.0], [2.0, 10.0], [3.0, 10.0], [4.0, 10.0], [10.0, 10.0]], dims=("image", "layer"))
    values = values.assign_coords(layer=[1, 2]).rename("thing")
    ax = layer_curve(values).axes[0]
    assert ax.lines[0].get_xdata().tolist() == [1, 2]
    assert ax.lines[0].get_ydata().tolist() == [3.0, 10.0]
    assert band(ax) == [(2.0, 4.0), (10.0, 10.0)]


def test_dims_besides_images_are_reduced_image_by_image():
    # Medians over heads 1, 2, 9 and 4, 5, 90 are 2 and 5, and the median of these 3.5; of all six numbers it is 4.5.
    values = xr.DataArray([[[1.0, 2, 9]], [[4, 5, 90]]], dims=("image", "layer", "head"), coords={"layer": [1]})
    ax = layer_curve(values).axes[0]
    assert ax.lines[0].get_ydata().tolist() == [3.5]


def test_labels_carry_name_and_unit_and_the_layers_are_whole_numbers(probed):
    figure = layer_curve(probed["attention_entropy"], title="a model")
    ax = figure.axes[0]
    assert ax.get_ylabel() == "mean entropy of attention rows\n(nat)"
    assert ax.get_xlabel() == "layer"
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(layer) for layer in range(1, 13)]
    assert figure.get_suptitle() == "a model"


def test_streams_have_a_line_each_in_their_own_colors(probed):
    ax = layer_curve(probed["entropy"]).axes[0]
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    streams = ["block_in", "attn_out", "block_sum"]
    assert names[:3] == ["block_in (X_res)", "attn_out (X_attn)", "block_sum (X_sum)"]
    assert names[3:] == ["median of 3 images, band: quartiles"]
    for line, stream in zip(ax.lines, streams, strict=True):
        assert line.get_color() == STREAM_COLORS[stream]
        assert np.allclose(line.get_ydata(), probed["entropy"].sel(stream=stream).median("image"))


def test_a_single_line_says_how_many_images_it_stands_for(probed):
    texts = layer_curve(probed["norm_ratio"]).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["median of 3 images, band: quartiles"]


def test_a_curve_of_means_is_the_mean_and_says_so(probed):
    ax = layer_curve(probed["entropy"], center="mean").axes[0]
    assert ax.get_legend().get_texts()[-1].get_text() == "mean of 3 images, band: quartiles"
    for line, stream in zip(ax.lines, ("block_in", "attn_out", "block_sum"), strict=True):
        values = probed["entropy"].sel(stream=stream).values.astype(float)
        assert np.allclose(line.get_ydata(), values.sum(axis=0) / 3)
    assert not np.allclose(ax.lines[0].get_ydata(), probed["entropy"].sel(stream="block_in").median("image"), atol=1e-6)
    with pytest.raises(ValueError, match="`center` should be `median` or `mean`; got `mode`"):
        layer_curve(probed["entropy"], center="mode")


def test_means_leave_out_what_was_not_counted(probed):
    counts = probed["massive_count"].copy()
    counts[0] = -1
    counts[1] = 4
    counts[2] = 7
    assert (layer_curve(counts, center="mean").axes[0].lines[0].get_ydata() == 5.5).all()


def test_one_image_has_no_band_and_needs_no_legend(probed):
    ax = layer_curve(probed["norm_ratio"].isel(image=[0])).axes[0]
    assert not ax.collections
    assert ax.get_legend() is None


def test_a_measurement_over_all_images_is_one_line(probed):
    ax = layer_curve(probed["auc_pooled"]).axes[0]
    assert np.array_equal(ax.lines[0].get_ydata(), probed["auc_pooled"].values)
    assert not ax.collections


def test_one_layer_is_a_dot_with_a_bar(probed):
    ax = layer_curve(probed["norm_ratio"].isel(layer=[8])).axes[0]
    assert ax.lines[0].get_marker() == "o"
    low, high = ax.collections[0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx(tuple(probed["norm_ratio"].isel(layer=8).quantile([0.25, 0.75]).values))
    assert [label.get_text() for label in ax.get_xticklabels()] == ["9"]


def test_a_wide_range_is_logarithmic_with_plain_numbers_and_says_so(probed):
    figure = layer_curve(probed["peak"])
    ax = figure.axes[0]
    figure.canvas.draw()
    assert ax.get_yscale() == "log"
    assert ax.get_ylabel() == "largest entry\n(model units, log scale)"
    assert "100" in [label.get_text() for label in ax.get_yticklabels()]
    assert layer_curve(probed["peak"], log=False).axes[0].get_yscale() == "linear"


def test_a_narrow_range_is_linear_unless_asked(probed):
    assert layer_curve(probed["entropy"]).axes[0].get_yscale() == "linear"
    ax = layer_curve(probed["entropy"], log=True).axes[0]
    assert ax.get_yscale() == "log"
    assert "log scale" in ax.get_ylabel()


def test_counts_have_whole_numbers_on_the_axis_and_uncounted_ones_are_left_out(probed):
    counts = probed["massive_count"].copy()
    counts[0] = -1
    ax = layer_curve(counts).axes[0]
    assert ax.lines[0].get_ydata().min() == 0
    assert all(float(tick).is_integer() for tick in ax.get_yticks())


def test_layers_need_not_be_all_nor_begin_at_one(probed):
    ax = layer_curve(probed["entropy"].sel(layer=[3, 9])).axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["3", "9"]
    assert ax.lines[0].get_xdata().tolist() == [3, 9]


@pytest.mark.parametrize(
    ("variable", "figure"), [("roc", "roc_curves"), ("layer_cka", "layer_similarity"), ("pca", "pca_maps")]
)
def test_what_a_curve_cannot_show_is_sent_to_the_figure_that_can(probed, variable, figure):
    with pytest.raises(ValueError, match=figure):
        layer_curve(probed[variable])


def test_a_measurement_without_layers_is_refused(probed):
    with pytest.raises(ValueError, match=r"`norm`.*lacks layer"):
        layer_curve(probed["norm"].isel(layer=0))


def test_norms_show_the_largest_and_the_median_patch_on_a_log_axis(probed):
    with drawing() as figure:
        ax = figure.subplots()
        draw_norms(ax, probed)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["largest patch", "median patch", "class token"]
    largest, middle, class_token = (line.get_ydata() for line in ax.lines)
    assert np.allclose(largest, probed["norm"].max(("row", "col")).median("image"))
    assert np.allclose(middle, probed["norm"].median(("row", "col")).median("image"))
    assert np.allclose(class_token, probed["class_norm"].median("image"))
    assert ax.get_yscale() == "log"
    # The story: at layer 8 the largest patch leaves the median behind.
    assert largest[6] < 2 * middle[6]
    assert largest[7] > 10 * middle[7]


def test_norms_of_a_model_without_a_class_token_have_two_lines(probed):
    with drawing() as figure:
        ax = figure.subplots()
        draw_norms(ax, probed.drop_vars("class_norm"))
    assert [line.get_label() for line in ax.lines] == ["largest patch", "median patch"]


def test_the_padding_of_smaller_images_takes_no_part(probed):
    padded = probed["norm"].pad(row=(0, 4), col=(0, 3))
    with drawing() as figure:
        left, right = figure.subplots(1, 2)
        draw_layer_curve(left, probed["norm"])
        draw_layer_curve(right, padded)
    assert np.array_equal(left.lines[0].get_ydata(), right.lines[0].get_ydata())


def test_the_overview_has_a_panel_for_every_curve(probed):
    figure = layer_overview(probed, title="a model")
    assert len(figure.axes) == 13
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[0] == "norm of the patch\n(model units, log scale)"
    assert titles[3] == "normalized entropy"
    assert len(set(titles)) == 13
    assert figure.get_suptitle() == "a model"
    assert len(panel(figure, "normalized entropy").lines) == 3
    assert "Lines: median of 3 images; bands: quartiles." in figure.get_supxlabel()


def test_the_overview_shows_the_range_of_heads(probed):
    ax = panel(layer_overview(probed[["attention_entropy"]]), "mean entropy")
    heads = probed["attention_entropy"].median("image")
    assert np.allclose(ax.lines[0].get_ydata(), heads.median("head"))
    assert np.allclose([low for low, _ in band(ax)], heads.min("head"))
    assert np.allclose([high for _, high in band(ax)], heads.max("head"))


def test_the_overview_draws_both_ways_to_pool_the_auc_in_one_panel(probed):
    figure = layer_overview(probed[["auc", "auc_pooled"]])
    (ax,) = figure.axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["per image", "pairs pooled", "chance"]
    assert np.array_equal(ax.lines[1].get_ydata(), probed["auc_pooled"].values)
    (ax,) = layer_overview(probed[["auc_pooled"]]).axes
    assert ax.lines[0].get_label() == "pairs pooled"


def test_the_overview_leaves_out_what_was_not_measured(probed):
    figure = layer_overview(probed[["entropy", "norm_ratio", "peak", "roc", "auc"]])
    titles = [ax.get_title(loc="left").split(" (")[0] for ax in figure.axes]
    assert titles == [
        "largest over median patch norm",
        "normalized entropy",
        "largest entry",
        "AUC of same-class pairs",
    ]
    # Only the lowest panel of each column names the axis that all share.
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "layer", "layer", "layer"]


def test_one_image_is_called_one_image(probed):
    assert layer_overview(probed.isel(image=[1])[["entropy"]]).get_supxlabel() == "One image."


def test_a_missing_layer_is_a_gap_in_the_line(probed):
    values = probed["norm_ratio"].where(probed["layer"] != 5)
    with drawing() as figure:
        ax = figure.subplots()
        draw_curve(ax, values, color="black")
    drawn = ax.lines[0].get_ydata()
    assert np.isnan(drawn[4])
    assert np.isfinite(np.delete(drawn, 4)).all()
    assert matplotlib.colors.same_color(ax.lines[0].get_color(), "black")


def line_of(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def test_several_runs_are_lines_of_their_own_with_their_own_layers(make):
    deep, flat = make(layers=24, seed=1), make(layers=12, seed=2)
    figure = layer_curve({"timm:deep@/data/a.bin": deep["norm_ratio"], "flat": flat["norm_ratio"]})
    (ax,) = figure.axes
    for name, dataset in (("timm:deep", deep), ("flat", flat)):
        line = line_of(ax, name)
        np.testing.assert_allclose(line.get_xdata(), dataset["layer"])
        np.testing.assert_allclose(line.get_ydata(), np.median(dataset["norm_ratio"].values.astype(float), axis=0))
    assert line_of(ax, "timm:deep").get_color() != line_of(ax, "flat").get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["timm:deep", "flat"]
    assert "median of 3 images" in figure.get_supxlabel()


def test_streams_of_several_runs_have_a_kind_of_line_each(make):
    first, other = make(seed=1), make(seed=2)
    (ax,) = layer_curve({"a": first["entropy"], "b": other["entropy"]}).axes
    styles = {(name, stream): line_of(ax, f"{name}, {stream}").get_linestyle()
              for name in "ab" for stream in ("block_in", "attn_out", "block_sum")}  # fmt: skip
    assert styles["a", "attn_out"] == styles["b", "attn_out"]
    assert len({styles["a", stream] for stream in ("block_in", "attn_out", "block_sum")}) == 3
    expected = np.median(other["entropy"].sel(stream="attn_out").values.astype(float), axis=0)
    np.testing.assert_allclose(line_of(ax, "b, attn_out").get_ydata(), expected)


def test_an_overview_of_several_runs_has_the_panels_that_all_have(make):
    first, other = make(seed=1), make(layers=6, seed=2).drop_vars("entropy")
    figure = layer_overview({"ViT": first, "DINOv2": other})
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert any(title.startswith("norm of the patch") for title in titles)
    assert not any("normalized entropy" in title for title in titles)
    norms = figure.axes[0]
    largest = np.median(other["norm"].values.astype(float).max(axis=(-2, -1)), axis=0)
    np.testing.assert_allclose(line_of(norms, "DINOv2, largest patch").get_ydata(), largest, rtol=1e-6)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ViT", "DINOv2"]
    with pytest.raises(ValueError, match="a variable that all have"):
        layer_overview({"a": first[["entropy"]], "b": first[["norm_ratio"]]})


def test_an_unknown_dimension_is_refused_and_not_averaged(probed):
    both = xr.concat([probed["norm_ratio"], probed["norm_ratio"]], dim="model")
    for measurement in (both, {"a": both}):
        with pytest.raises(ValueError, match=r"has model, and a median over it .*sel\(model="):
            layer_curve(measurement)
    with pytest.raises(ValueError, match="got none"):
        layer_curve({})
