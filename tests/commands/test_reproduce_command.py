"""`outliers reproduce`: what it prints, and the exit codes that scripts rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from attention_outliers.commands.main import app
from attention_outliers.commands.reproduce_options import roots_of
from attention_outliers.papers import experiments, experiments_named
from attention_outliers.papers.needs import in_words
from attention_outliers.papers.plan import narrowed

runner = CliRunner()
TINY = ("--offline", "--backbone", "tiny", "--limit", "1", "--workers", "1", "--device", "cpu")


def ran(*arguments, code: int = 0) -> str:
    result = runner.invoke(app, ["reproduce", *map(str, arguments)], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def test_the_list_names_every_table():
    output = ran("list")
    for key in experiments():
        assert f"{key} " in output


def test_a_table_is_run_and_printed_in_the_form_asked_for(tmp_path):
    output = ran("sfp/start-layer", *TINY, "--out", tmp_path, "--form", "markdown")
    assert "| method | VOC21 | printed | ADE | printed | Avg | printed |" in output
    assert "| layer 5 |" in output
    assert "every data set is `shapes`" in output


def test_only_the_rows_that_were_asked_for_are_run_and_shown(tmp_path):
    output = ran("sfp/start-layer", *TINY, "--out", tmp_path, "--form", "markdown", "--rows", "layer 5")
    assert "| layer 5 |" in output
    assert "| layer 8 |" not in output
    assert len(list(tmp_path.glob("**/cells/*.json"))) == 1


def test_of_several_tables_those_are_taken_that_have_what_was_asked_for():
    tables = experiments_named("sc-clip")
    assert [table.key for table, _ in narrowed(tables, ["resolve (5)"], [])] == ["sc-clip/table-3"]
    parts = narrowed(tables, [], ["cityscapes", "voc21"])
    assert [
        (table.key, data_sets) for table, data_sets in parts if table.key in ("sc-clip/table-1", "sc-clip/table-2")
    ] == [
        ("sc-clip/table-1", ("cityscapes", "voc21")),
        ("sc-clip/table-2", ("voc21",)),
    ]
    assert len(narrowed(tables, [], [])) == 9
    with pytest.raises(ValueError, match="no row `SCCLIP`"):
        narrowed(tables, ["SCCLIP"], [])
    with pytest.raises(ValueError, match="no data set `camvid`"):
        narrowed(tables, [], ["voc21", "camvid"])
    with pytest.raises(ValueError, match=r"no table has rows resolve \(5\) on cityscapes"):
        narrowed(tables, ["resolve (5)"], ["cityscapes"])


def test_a_dry_run_says_what_is_needed_and_runs_nothing(tmp_path):
    output = ran("sfp/pamr", "--backbone", "tiny", "--root", tmp_path, "--dry-run", "--device", "cpu", "--limit", "10")
    assert "- voc20, protocol sfp, refine=pamr, tiny: 1 methods" in output
    assert "data: MISSING" in output
    assert "weights: at hand" in output
    assert "10 images, 60 windows through all methods; about" in output
    assert "6 runs (0 ready)" in output
    assert not list(tmp_path.iterdir())


def test_a_table_of_which_nothing_can_be_run_prints_what_is_known_and_fails(tmp_path):
    output = ran("sfp/pamr", "--backbone", "tiny", "--out", tmp_path / "out", "--root", tmp_path, code=1)
    assert "84.9" in output
    assert "holds no `voc20`" in output


def test_without_a_place_for_results_it_says_so():
    result = runner.invoke(app, ["reproduce", "sfp/pamr"])
    assert isinstance(result.exception, ValueError)
    assert "--out FOLDER" in str(result.exception)


def test_roots_are_one_for_all_or_of_one_data_set():
    assert roots_of(["/data", "voc21=/voc"]) == {"": Path("/data"), "voc21": Path("/voc")}
    assert roots_of(["/data/a=b"]) == {"": Path("/data/a=b")}
    with pytest.raises(ValueError, match="two folders for all data sets"):
        roots_of(["/data", "/more"])


def test_time_is_reported_in_words():
    assert [in_words(seconds) for seconds in (2, 90, 7200, 200000)] == ["2.0 s", "1.5 min", "2.0 h", "2.3 days"]
