import numpy as np
import pandas as pd
import pytest

from diagnostics.studies.thresholds import threshold_table
from figures import threshold_sweep
from figures.look import VERMILION


@pytest.fixture
def table():
    """Two detectors at two layers: `norm` with threshold 30, and one with a quota of 10."""
    rows = []
    for layer, gain in ((8, 1.0), (11, 2.0)):
        for detector in ("norm", "norm-topk"):
            for threshold, tokens in ((1, 100), (10, 20), (100, 4), (1000, 0)):
                rows.append((detector, layer, threshold, False, tokens * gain))
        rows += [("norm", layer, 30.0, True, 9 * gain), ("norm-topk", layer, np.nan, True, 10.0)]
    return pd.DataFrame(rows, columns=["detector", "layer", "threshold", "own", "tokens"])


def panel(figure, detector):
    (ax,) = [ax for ax in figure.axes if ax.get_title(loc="left") == detector]
    return ax


def curve(ax, layer):
    (line,) = [line for line in ax.lines if line.get_label() == f"layer {layer}"]
    return line


def dashed(ax):
    return [line for line in ax.lines if line.get_linestyle() == "--"]


def test_each_detector_has_a_panel_with_a_line_for_each_layer(table):
    figure = threshold_sweep(table)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["norm", "norm-topk"]
    assert curve(panel(figure, "norm-topk"), 11).get_xydata().tolist() == [[1, 200], [10, 40], [100, 8], [1000, 0]]
    assert figure.axes[0].get_ylabel() == "tokens per image"
    assert {ax.get_xlabel() for ax in figure.axes} == {"threshold"}


def test_the_own_threshold_is_a_line_with_its_number_and_lies_on_the_curves(table):
    ax = panel(threshold_sweep(table), "norm")
    (line,) = dashed(ax)
    assert list(line.get_xdata()) == [30.0, 30.0]
    assert line.get_color() == VERMILION
    assert [text.get_text() for text in ax.texts] == ["30"]
    dots = [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert dots == [(30, 9), (30, 18)]
    assert [30.0, 9.0] in curve(ax, 8).get_xydata().tolist()


def test_a_quota_has_a_level_and_no_threshold(table):
    ax = panel(threshold_sweep(table), "norm-topk")
    assert dashed(ax) == []
    levels = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [list(line.get_ydata()) for line in levels] == [[10, 10], [10, 10]]
    assert [text.get_text() for text in ax.texts] == ["own rule"]


def test_a_rule_that_is_more_than_its_threshold_leaves_the_curve_alone(table):
    table.loc[(table["detector"] == "norm") & table["own"], "tokens"] = 1.0
    ax = panel(threshold_sweep(table), "norm")
    assert len(curve(ax, 8).get_xdata()) == 4
    assert len([line for line in ax.lines if line.get_marker() == "o"]) == 2


def test_thresholds_of_a_wide_range_have_a_log_scale_unless_set_otherwise(table):
    narrow = table[table["threshold"].isna() | table["threshold"].between(10, 100)]
    assert {ax.get_xscale() for ax in threshold_sweep(table).axes} == {"log"}
    assert {ax.get_xscale() for ax in threshold_sweep(narrow).axes} == {"linear"}
    assert {ax.get_xscale() for ax in threshold_sweep(narrow, log=True).axes} == {"log"}
    assert {ax.get_xscale() for ax in threshold_sweep(table, log=False).axes} == {"linear"}


def test_zero_tokens_have_a_place_on_the_shared_scale(table):
    for ax in threshold_sweep(table).axes:
        assert ax.get_yscale() == "symlog"
        assert ax.get_ylim() == (0, 400)


def test_few_layers_are_drawn_or_the_one_asked_for(scores):
    table = threshold_table(scores, thresholds=5)
    labels = [line.get_label() for line in threshold_sweep(table).axes[0].lines if "layer" in line.get_label()]
    assert len(labels) == 4
    assert (labels[0], labels[-1]) == ("layer 1", "layer 12")
    axes = threshold_sweep(table, layer=-1).axes[0]
    assert [line.get_label() for line in axes.lines if "layer" in line.get_label()] == ["layer 12"]


def test_a_table_without_what_is_needed_is_refused(table):
    with pytest.raises(ValueError, match="lacks own"):
        threshold_sweep(table.drop(columns="own"))
    with pytest.raises(ValueError, match="at least one row"):
        threshold_sweep(table.iloc[:0])
    with pytest.raises(ValueError, match=r"measured \[8, 11\]"):
        threshold_sweep(table, layer=9)


def test_the_table_stays_as_it_was(table):
    before = table.copy(deep=True)
    threshold_sweep(table).canvas.draw()
    pd.testing.assert_frame_equal(table, before)
