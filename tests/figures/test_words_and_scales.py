import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import LogNorm

from figures.curves.layer_axis import chosen_layers, some_layers, ticks_among
from figures.curves.quantiles import median, median_keeping
from figures.maps.scales import bar_ticks, color_scale, wants_log
from figures.text import label_of, short_number, shortened, without_folders


def measured(**attrs):
    return xr.DataArray([1.0], dims="layer", name="attention_distance", attrs=attrs)


def test_a_label_has_name_unit_and_scale():
    assert label_of(measured(units="pixel", long_name="mean distance")) == "mean distance (pixel)"
    assert label_of(measured(units="pixel", long_name="mean distance"), log=True) == "mean distance (pixel, log scale)"


def test_a_plain_number_has_no_unit_and_a_variable_without_a_long_name_its_own():
    assert label_of(measured(units="1")) == "attention distance"


def test_a_long_label_breaks_before_its_brackets():
    label = label_of(measured(units="model units", long_name="norm of the patch"), log=True, width=30)
    assert label == "norm of the patch\n(model units, log scale)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.00123, "0.00123"),
        (0.45, "0.45"),
        (12.34, "12.3"),
        (540.4, "540"),
        (12345, "12345"),
        (12345678, "1.23e7"),
        (0.000064, "6.4e-5"),
        (-3.0, "-3"),
    ],
)
def test_numbers_are_short(value, text):
    assert short_number(value) == text


def test_short_numbers_keep_their_leading_digits_at_any_size():
    values = np.concatenate([np.geomspace(1e-12, 1e12, 500), [0.000735, 999.6, 999999.7]])
    for digits in (2, 3, 4, 5, 6):
        for value in values:
            text = short_number(value, digits)
            assert float(text) == pytest.approx(value, rel=0.6 * 10.0 ** (1 - digits))
            assert len(text) <= digits + 6


def test_two_digits_do_not_bring_an_exponent():
    assert [short_number(value, 2) for value in (195.4, 64.6, 1.06)] == ["195", "65", "1.1"]


def test_long_names_lose_their_middle():
    assert shortened("abcdefghij", 5) == "ab…ij"
    assert shortened("abc", 5) == "abc"


@pytest.mark.parametrize(
    ("numbers", "most", "ticks"),
    [
        (range(1, 13), 12, list(range(1, 13))),
        (range(1, 25), 8, [1, 4, 8, 12, 16, 20, 24]),
        (range(1, 25), 12, [1, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]),
        ([9], 8, [9]),
        ([2, 5, 11], 8, [2, 5, 11]),
    ],
)
def test_layer_ticks_are_round_and_hold_both_ends(numbers, most, ticks):
    assert ticks_among(list(numbers), most) == ticks


@pytest.mark.parametrize("count", [13, 20, 32, 33, 40, 48, 100])
def test_layer_ticks_are_few_and_never_next_to_each_other(count):
    ticks = ticks_among(range(1, count + 1), 8)
    assert (ticks[0], ticks[-1]) == (1, count)
    assert len(ticks) <= 8
    gaps = np.diff(ticks)
    assert gaps.min() > gaps.max() / 2 - 1


def test_some_layers_are_spread_from_first_to_last():
    assert some_layers(range(1, 25), 4) == [1, 9, 16, 24]
    assert some_layers([3, 7], 4) == [3, 7]


def test_layers_count_from_the_end_and_unknown_ones_are_refused(probed):
    assert chosen_layers(probed, [-1, 2], most=1) == [12, 2]
    with pytest.raises(ValueError, match="got 13"):
        chosen_layers(probed, [13], most=1)
    with pytest.raises(ValueError, match="at least one"):
        chosen_layers(probed, [], most=1)


def test_a_range_of_more_than_thirty_times_is_logarithmic():
    assert not wants_log(np.array([1.0, 30.0]))
    assert wants_log(np.array([1.0, 30.1, np.nan]))
    assert not wants_log(np.array([0.0, 1.0, 100.0]))
    assert not wants_log(np.array([-1.0, 100.0]))
    assert not wants_log(np.array([np.nan]))
    assert wants_log(np.array([1e-4, 0.9]))
    assert not wants_log(np.array([3.6e-30, 0.9]))  # a share that vanishes
    assert wants_log(np.array([1e-4, 9e3]))


def test_the_caller_decides_about_the_scale_unless_it_cannot_be():
    assert wants_log(np.array([1.0, 2.0]), True)
    assert not wants_log(np.array([1.0, 200.0]), False)
    with pytest.raises(ValueError, match="no value is positive"):
        wants_log(np.array([-1.0, 0.0]), True)


def test_a_color_scale_holds_all_values_but_the_lowest_of_a_log_scale():
    linear = color_scale(np.array([-2.0, 3.0, np.nan]))
    assert (linear.vmin, linear.vmax) == (-2.0, 3.0)
    values = np.concatenate([[0.0, 1e-9], np.geomspace(0.01, 1, 1000)])
    log = color_scale(values)
    assert isinstance(log, LogNorm)
    assert log.vmax == 1.0
    assert 0.009 < log.vmin < 0.011
    assert bar_ticks(LogNorm(1, 100)) == pytest.approx([1, 10, 100])


def test_a_log_scale_of_colors_spans_four_decades_at_most():
    scale = color_scale(np.geomspace(1e-12, 0.5, 1000))
    assert (scale.vmin, scale.vmax) == pytest.approx((0.5e-4, 0.5))


@pytest.mark.parametrize(
    ("spec", "short"),
    [
        ("timm:vit_tiny_patch16_224@/data/my/a.safetensors", "timm:vit_tiny_patch16_224@a.safetensors"),
        ("open_clip:ViT-B-16@C:\\data\\a.pt", "open_clip:ViT-B-16@a.pt"),
        ("openai:/data/ViT-B-16.pt", "openai:ViT-B-16.pt"),
        ("local-dir:/data/mine/", "local-dir:mine"),
        ("open_clip:ViT-B-16/openai", "open_clip:ViT-B-16/openai"),
        ("hf-hub:org/name", "hf-hub:org/name"),
        ("pocket:planted", "pocket:planted"),
    ],
)
def test_a_spec_loses_the_folders_of_its_file_and_nothing_else(spec, short):
    assert without_folders(spec) == short


@pytest.mark.parametrize("values", [[], [np.nan], [3.0, 3.0], [0.0, 0.0]])
def test_a_color_scale_without_a_range_still_has_width(values):
    scale = color_scale(np.array(values))
    assert scale.vmax > scale.vmin


def test_medians_pass_over_missing_values_and_counts_below_zero():
    values = xr.DataArray([[1.0, np.nan, 3.0], [np.nan] * 3], dims=("layer", "image"))
    assert median(values, ["image"]).values.tolist()[0] == 2.0
    assert np.isnan(median(values, ["image"]).values[1])
    counts = xr.DataArray(np.array([[-1, 4, 6]]), dims=("layer", "image"))
    assert median(counts, ["image"]).values.tolist() == [5.0]


def test_medians_keep_names_and_units(probed):
    kept = median_keeping(probed["class_attention"], ("layer", "head"))
    assert kept.dims == ("layer", "head")
    assert kept.attrs == probed["class_attention"].attrs
    expected = np.median(probed["class_attention"].values.astype(float), axis=(0, 3, 4))
    assert np.allclose(kept.values, expected)
