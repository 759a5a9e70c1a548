import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from diagnostics.studies.agreement import agreement_table
from figures import agreement
from figures.tables.agreement import agreement_matrix


@pytest.fixture
def table():
    """Three detectors at layer 8, not in the order of the alphabet; two of them mark nothing."""
    return pd.DataFrame(
        {
            "detector": ["som", "som", "lof"],
            "other": ["lof", "knn", "knn"],
            "layer": [8, 8, 8],
            "jaccard": [0.25, 0.999, np.nan],
            "spearman": [-0.5, 0.004, -0.004],
        }
    )


def cells(figure):
    """Numbers by (row, column)."""
    ax = figure.axes[0]
    return {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in ax.texts}


def test_the_matrix_is_symmetric_in_the_order_of_the_table(table):
    matrix = agreement_matrix(table, 8, "jaccard")
    assert list(matrix.index) == list(matrix.columns) == ["som", "lof", "knn"]
    expected = [[1, 0.25, 0.999], [0.25, 1, np.nan], [0.999, np.nan, 1]]
    assert np.array_equal(matrix.to_numpy(), expected, equal_nan=True)


def test_every_cell_has_its_number_and_missing_ones_are_empty(table):
    figure = agreement(table, layer=8)
    assert cells(figure) == {
        (0, 0): "1",
        (1, 1): "1",
        (2, 2): "1",
        (0, 1): ".25",
        (1, 0): ".25",
        (0, 2): "1",
        (2, 0): "1",
    }
    shown = figure.axes[0].collections[0].get_array()
    assert np.argwhere(np.ma.getmaskarray(shown)).tolist() == [[1, 2], [2, 1]]


def test_the_colors_run_over_the_whole_range_of_the_value(table):
    jaccard, spearman = (agreement(table, layer=8, value=value) for value in ("jaccard", "spearman"))
    scales = [figure.axes[0].collections[0].norm for figure in (jaccard, spearman)]
    assert [(scale.vmin, scale.vmax) for scale in scales] == [(0, 1), (-1, 1)]
    assert cells(spearman)[0, 1] == "-.50"
    assert cells(spearman)[1, 2] == cells(spearman)[0, 2] == ".00"
    assert "layer 8" in spearman.axes[0].get_title(loc="left")


def test_detectors_are_named_on_both_sides(table):
    ax = agreement(table, layer=8).axes[0]
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["som", "lof", "knn"]


def test_a_layer_of_a_real_table_is_drawn(scores):
    figure = agreement(agreement_table(scores.sel(layer=[8, 11])), layer=-1)
    figure.canvas.draw()
    assert "layer 11" in figure.axes[0].get_title(loc="left")
    # Both find all planted patches by their norm, and nothing else.
    assert cells(figure)[0, 1] == "1"


def test_unknown_values_and_layers_are_refused(table):
    with pytest.raises(ValueError, match=r"one of jaccard, spearman; got 'pearson'"):
        agreement(table, layer=8, value="pearson")
    with pytest.raises(ValueError, match=r"measured \[8\]"):
        agreement(table, layer=9)
    with pytest.raises(ValueError, match="lacks other"):
        agreement(table.drop(columns="other"), layer=8)


def test_the_table_stays_as_it_was(table):
    before = table.copy(deep=True)
    agreement(table, layer=8)
    pd.testing.assert_frame_equal(table, before)


def test_numbers_are_seen_on_their_color_and_seaborn_leaves_the_settings_alone(table):
    before = dict(matplotlib.rcParams)
    (dark, light) = (next(text for text in agreement(table, layer=8).axes[0].texts if text.get_text() == number)
                     for number in (".25", "1"))  # fmt: skip
    brightness = [sum(to_rgb(text.get_color())) for text in (dark, light)]
    assert brightness[0] > 2.5  # white on the dark end of the scale
    assert brightness[1] < 1
    assert dict(matplotlib.rcParams) == before
