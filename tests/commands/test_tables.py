"""Tables of the terminal: every word and number is there at every width, and rows stay rows."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from attention_outliers.commands.tables import Table, printed_width, wrapped

WIDTHS = [40, 60, 80, 120, 200]
NUMBERS = Table(
    heads=["detector", *[f"k={k} layer\u00a0{layer}" for k in (1, 35) for layer in range(6)]],
    rows=[["received-attention", *(np.arange(12) / 7 - 1)], ["norm", *(np.arange(12) * 83.21)]],
    title="ROC-AUC against planted outliers",
)
TEXTS = Table(
    heads=["name", "what it is", "variables (unit)", "count"],
    rows=[
        ["query-attention", "Attention of a patch to all others, as a map, for each head", "query_attention, mean", 2],
        ["norms", "Norm of each patch", "norm (model units), norm_ratio, norm_outliers", 3],
    ],
    caption="and 7 more",
)
LONG = Table(
    heads=["method", "mIoU", "pixel accuracy"],
    rows=[
        ["sc-clip:detector=lof(neighbors=20),purifier=neighbor-mean,layers=8+9+10+11", 0.5, None],
        ["clip", 0.25, 1.0],
    ],
)


def words_of(text):
    return re.findall(r"[^ \n]+", text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("table", [NUMBERS, TEXTS, LONG], ids=["numbers", "texts", "long names"])
def test_nothing_is_cut_and_no_line_is_wider_than_the_terminal(table, width):
    lines = table.lines(width)
    printed = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in printed
    joined = printed.replace("\n", " ")
    for row in table.rows:
        for value in row:
            if isinstance(value, float) and not np.isnan(value):
                assert f"{value:.3f}" in words_of(joined)
            elif isinstance(value, str):
                # a spec may be broken behind a comma, all else only between words
                pieces = value.replace(",", ", ").split() if table is LONG else value.split()
                assert all(piece in joined for piece in pieces), (value, printed)


@pytest.mark.parametrize("width, names", [(40, 6), (80, 2), (200, 1)])
def test_columns_that_do_not_fit_go_on_below_with_the_names_again(width, names):
    assert "\n".join(NUMBERS.lines(width)).count("received-attention") == names


def test_numbers_stand_under_their_heads_on_the_right():
    table = Table(heads=["name", "a", "long head"], rows=[["x", 1.5, -20.25], ["yy", None, 3.0]], digits={"a": 1})
    assert table.lines(80) == [
        "name    a  long head",
        "x     1.5    -20.250",
        "yy      -      3.000",
    ]


def test_long_names_have_a_line_of_their_own_with_the_numbers_below():
    assert LONG.lines(60) == [
        "   mIoU  pixel accuracy",
        "sc-clip:detector=lof(neighbors=20),purifier=neighbor-mean,",
        "layers=8+9+10+11",
        "  0.500               -",
        "clip",
        "  0.250           1.000",
    ]


def test_texts_share_the_width_and_become_lists_where_it_is_too_small():
    assert TEXTS.lines(80)[:3] == [
        "name             what it is                   variables (unit)             count",
        "query-attention  Attention of a patch to all  query_attention, mean            2",
        "                 others, as a map, for each",
    ]
    assert TEXTS.lines(40)[:4] == [
        "query-attention",
        "  what it is: Attention of a patch to",
        "    all others, as a map, for each head",
        "  variables (unit): query_attention,",
    ]


def test_records_are_the_values_as_they_are():
    frame = pd.DataFrame({"AUC": [0.123456, np.nan]}, index=pd.Index(["norm", "lof"], name="detector"))
    table = Table.of_frame(frame, "title")
    assert table.records()[0] == {"detector": "norm", "AUC": 0.123456}
    assert table.lines(80) == ["title", "detector    AUC", "norm      0.123", "lof           -"]


def test_a_missing_whole_number_is_a_dash():
    frame = pd.DataFrame({"layer": pd.array([8, None], dtype="Int64")}, index=pd.Index(["ViT", "pocket"], name="model"))
    table = Table.of_frame(frame)
    assert [record["layer"] for record in table.records()] == [8, None]
    assert table.lines(80) == ["model   layer", "ViT         8", "pocket      -"]


def test_brackets_and_styles_are_printed_as_they_are():
    table = Table(heads=["class", "share"], rows=[["[red]b[/]", 1.0]])
    assert table.lines(80)[1] == "[red]b[/]  1.000"
    assert table.lines(80, styled=True)[1] == "\x1b[1m[red]b[/]\x1b[0m  1.000"


@pytest.mark.parametrize("columns, width", [("100", 100), ("0", 80), ("-3", 80), ("many", 80), ("5", 40), (None, 80)])
def test_the_width_is_that_of_columns_if_it_is_a_number_above_0(columns, width, monkeypatch):
    monkeypatch.setattr("os.get_terminal_size", lambda *_: (_ for _ in ()).throw(OSError))
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    assert printed_width() == width


def test_words_are_broken_only_where_they_are_longer_than_a_line():
    assert wrapped("a bb ccc", 4) == ["a bb", "ccc"]
    assert wrapped("one,two,three x", 8) == ["one,two,", "three x"]
    assert wrapped("unbreakable", 4) == ["unbreakable"]
    assert wrapped("no\u00a0break here", 9) == ["no\u00a0break", "here"]
    assert wrapped("", 9) == [""]
