import numpy as np
import pandas as pd
import pytest

from figures import purification_bars


@pytest.fixture
def table():
    """Two layers, two purifiers, two modes; one mode has no numbers about the last layer."""
    rows = [
        (8, "neighbor-mean", "in place", 0.01, -0.002, 0.02),
        (8, "neighbor-mean", "propagated", 0.02, 0.01, 0.03),
        (8, "zero", "in place", -0.03, -0.05, -0.01),
        (8, "zero", "propagated", 0.0, np.nan, np.nan),
        (11, "neighbor-mean", "in place", 0.04, 0.03, 0.05),
        (11, "neighbor-mean", "propagated", 0.05, 0.04, 0.06),
        (11, "zero", "in place", 0.01, 0.0, 0.02),
        (11, "zero", "propagated", 0.02, 0.01, 0.03),
    ]
    table = pd.DataFrame(rows, columns=["layer", "purifier", "mode", "delta_auc", "low", "high"])
    later = table["mode"] == "propagated"
    for name in ("delta_auc", "low", "high"):
        table[f"{name}_last"] = (table[name] / 2).where(later)
    return table


def bars(ax, mode):
    """(middle, length) of one mode's bars, from top to bottom."""
    (container,) = [bars for bars in ax.containers if bars.get_label() == mode]
    return [(round(bar.get_y() + bar.get_height() / 2, 6), round(bar.get_width(), 6)) for bar in container]


def whiskers(ax, mode):
    """(low, high) of one mode's intervals, from top to bottom."""
    (lines,) = [lines for lines in ax.collections if lines.get_label() == f"_{mode} interval"]
    return [[x for x, _ in line] for line in lines.get_segments()]


def test_each_layer_is_a_panel_with_a_bar_for_each_purifier_and_mode(table):
    figure = purification_bars(table)
    first, second = figure.axes
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["layer 8", "layer 11"]
    assert bars(first, "in place") == [(-0.2, 0.01), (0.8, -0.03)]
    assert bars(first, "propagated") == [(0.2, 0.02), (1.2, 0.0)]
    assert bars(second, "propagated") == [(0.2, 0.05), (1.2, 0.02)]
    assert [label.get_text() for label in first.get_yticklabels()] == ["neighbor-mean", "zero"]
    assert first.get_ylim() == second.get_ylim() == (1.5, -0.5)
    assert first.get_xlim() == second.get_xlim()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["in place", "propagated"]


def test_intervals_are_drawn_where_they_are_known(table):
    ax = purification_bars(table).axes[0]
    assert whiskers(ax, "in place") == [[-0.002, 0.02], [-0.05, -0.01]]
    assert whiskers(ax, "propagated") == [[0.01, 0.03]]


def test_a_line_stands_at_no_change(table):
    for ax in purification_bars(table).axes:
        (zero,) = ax.lines
        assert list(zero.get_xdata()) == [0, 0]


def test_the_change_at_the_last_layer_has_only_the_modes_that_reach_it(table):
    figure = purification_bars(table, at="last")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["propagated"]
    assert bars(figure.axes[1], "propagated") == [(0.0, 0.025), (1.0, 0.01)]
    assert "last layer" in figure.axes[0].get_xlabel()


def test_modes_with_the_same_numbers_are_one_bar_named_after_both(table):
    same = table[table["mode"] == "in place"]
    both = pd.concat([same, same.iloc[::-1].assign(mode="propagated")])
    figure = purification_bars(both)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["in place and propagated"]
    assert bars(figure.axes[0], "in place and propagated") == [(0.0, 0.01), (1.0, -0.03)]


def test_a_purifier_that_was_not_tried_at_a_layer_leaves_a_gap(table):
    figure = purification_bars(table.drop(index=[4, 5]))
    assert bars(figure.axes[1], "in place") == [(0.8, 0.01)]
    assert figure.axes[1].get_ylim() == (1.5, -0.5)


def test_tables_that_can_not_be_drawn_are_refused(table):
    with pytest.raises(ValueError, match="lacks low"):
        purification_bars(table.drop(columns="low"))
    with pytest.raises(ValueError, match=r"layer 8, `neighbor-mean`, in place comes twice"):
        purification_bars(pd.concat([table, table]))
    with pytest.raises(ValueError, match="Give labels"):
        purification_bars(table.assign(delta_auc=np.nan))
    with pytest.raises(ValueError, match="one of layer, last; got 'first'"):
        purification_bars(table, at="first")


def test_the_table_stays_as_it_was(table):
    before = table.copy(deep=True)
    purification_bars(table).canvas.draw()
    pd.testing.assert_frame_equal(table, before)


def test_where_nothing_was_marked_words_say_so(table):
    first, second = purification_bars(table.assign(marked=np.where(table["layer"] == 8, 0.0, 4.0))).axes
    assert [text.get_text() for text in first.texts] == ["no token was marked"]
    assert not second.texts
