"""What commands print: JSON alone on standard output, nothing but results with --quiet, names as they are."""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import diagnostics
from attention_outliers.commands import main as command_line
from attention_outliers.commands.list import LISTS
from attention_outliers.commands.main import app, main
from attention_outliers.commands.output import plain

runner = CliRunner()
NAMES = ["a.png", "[red]b.png"]
SHAPES = "shapes:scenes=3,height=48,width=64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("printing")
    (path / "images").mkdir()
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / "images" / name)
    (path / "images" / "bad.png").write_bytes(b"no image")
    evaluation = ["evaluate", "-d", SHAPES, "-b", "tiny", "-M", "clip,clearclip", "--workers", "1"]
    assert runner.invoke(app, [*evaluation, "-o", str(path / "results"), "--quiet"]).exit_code == 0
    return path


def ran(*arguments, code=0):
    result = runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "80"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


def lines_of(folder):
    """Every command that prints a table, on small inputs."""
    images, words = folder / "images", ("--classes", "cat, [wooden] chair", "-b", "tiny", "--templates", "plain")
    return {
        "probe": ["probe", images, "-b", "tiny:outliers=true", "-m", "norms", "--layers", "1,2"],
        "compare": ["compare", images, "-b", "tiny", "-d", "norm,random", "--layers", 6, "-o", folder / "compared",
                    "--no-plots", "--no-stability", "--purifiers", "zero"],
        "classify": ["classify", images, *words],
        "segment": ["segment", images, *words, "-M", "clip", "--windows", "whole", "-o", folder / "maps",
                    "--no-overlays"],
        "encode": ["encode", images, "-b", "tiny", "-o", folder / "features"],
        "table": ["table", folder / "results"],
        "differences": ["table", folder / "results", "--compare", "clip,clearclip"],
        "list": ["list"],
        "datasets": ["datasets", "list"],
        "figures": ["figure", "list"],
        "tables": ["reproduce", "list"],
        "needs": ["reproduce", "sfp/pamr", "-b", "tiny", "--offline", "--dry-run", "--limit", 1],
    }  # fmt: skip


@pytest.mark.parametrize("command", lines_of(__import__("pathlib").Path()))
def test_json_is_valid_and_alone_on_standard_output(command, folder):
    result = ran(*lines_of(folder)[command], "--json")
    record = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert isinstance(record, dict)
    assert record
    if "left_out" in record and command not in ("segment",):
        assert list(record["left_out"]) == ["bad.png"]
        assert "bad.png" in result.stderr


def test_json_has_the_numbers_that_python_has(folder):
    record = json.loads(ran(*lines_of(folder)["probe"], "--json").stdout)
    model = diagnostics.load_backbone("tiny:outliers=true")
    with pytest.warns(UserWarning, match="left out"):
        dataset = diagnostics.probe(model, folder / "images", measures=["norms"], layers=[1, 2])
    expected = np.median(dataset["norm"].values, axis=(0, 2, 3))
    assert [row["layer"] for row in record["layers"]] == [1, 2]
    assert [row["median norm"] for row in record["layers"]] == pytest.approx(expected.tolist(), rel=0.02)
    assert record["backbone"] == "tiny:outliers=true"
    assert record["images"] == 2


def test_results_of_an_evaluation_are_rows_of_numbers_in_json_and_csv(folder):
    rows = json.loads(ran("table", folder / "results", "--json").stdout)["results"]
    rows.sort(key=lambda row: -len(row["method"]))
    assert [row["method"] for row in rows] == ["clearclip", "clip"]
    again = json.loads(
        ran("evaluate", "-d", SHAPES, "-b", "tiny", "-M", "clip,clearclip", "-o", folder / "results", "--json").stdout
    )
    assert sorted(again["results"], key=lambda row: -len(row["method"])) == rows
    assert again["folder"] == str(folder / "results")
    note = json.loads((folder / "results" / "cells" / "clip.json").read_text())
    assert rows[1]["miou"] == note["miou"]
    assert rows[1]["images"] == rows[1]["of"] == 3
    (folder / "t.csv").write_text(ran("table", folder / "results", "--form", "csv").stdout)
    frame = pd.read_csv(folder / "t.csv")
    assert sorted(frame["miou"]) == sorted(row["miou"] for row in rows)
    assert frame["published"].isna().all()


def test_quiet_prints_the_table_and_what_was_left_out_to_standard_error(folder):
    loud, quiet = (ran(*lines_of(folder)["probe"], *more) for more in ([], ["--quiet"]))
    note = diagnostics.load_backbone("tiny:outliers=true").note
    assert note in loud.stdout
    assert "left out (1)" in loud.stdout
    assert note not in quiet.output
    assert quiet.stdout.splitlines()[0] == "2 images, tiny:outliers=true"
    assert "bad.png" not in quiet.stdout
    assert "left out (1)" in quiet.stderr
    encoded = [folder / "quiet" if word == folder / "features" else word for word in lines_of(folder)["encode"]]
    assert ran(*encoded, "--quiet").stdout == ""


@pytest.mark.parametrize("command", ["classify", "segment"])
def test_names_with_brackets_are_printed_as_they_are(command, folder, tmp_path):
    arguments = [tmp_path / "m" if argument == folder / "maps" else argument for argument in lines_of(folder)[command]]
    output = ran(*[word if word != "cat, [wooden] chair" else "cat, [wooden] chair, [/]x" for word in arguments]).output
    assert "[wooden]" in output
    assert "[/]x" in output
    if command == "classify":
        assert "[red]b.png" in output


def test_an_empty_line_stands_between_tables_and_nowhere_else(folder):
    lines = ran("list").stdout.splitlines()
    titles = [place for place, line in enumerate(lines) if place == 0 or not lines[place - 1]]
    assert lines.count("") == len(titles) - 1 == len(LISTS) - 1
    assert "" not in ran("list", "taps").stdout.splitlines()


def test_probe_without_out_prints_and_writes_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = ran(*lines_of(folder)["probe"]).output
    assert "median norm" in output or "median" in output
    assert "bad.png" in output
    assert list(tmp_path.iterdir()) == []


def test_view_names_its_page_and_replaces_one_only_on_demand(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["view", folder / "images" / "a.png", "-b", "tiny", "--layers", "1", "-d", "norm"]
    ran(*arguments)
    page = tmp_path / "a-tiny.html"
    page.write_text("mine")
    refused = runner.invoke(app, [str(argument) for argument in arguments])
    assert "--overwrite" in str(refused.exception)
    assert page.read_text() == "mine"
    ran(*arguments, "--overwrite")
    assert page.stat().st_size > 1000


def error_of(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["outliers", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["probe", "nowhere"], "there is no file or folder `nowhere`"),
        (["probe", "IMAGES", "--labels", "nowhere"], "`nowhere` is not a directory"),
        (["compare", "nowhere", "-o", "x"], "there is no file or folder `nowhere`"),
        (["encode", "nowhere", "-o", "x"], "there is no file or folder `nowhere`"),
        (["classify", "IMAGES", "-c", "cat", "--truth", "none.csv"], "`--truth` should be a file; `none.csv`"),
        (["segment", "IMAGES", "--classes-file", "none.txt", "-o", "x"], "`--classes-file` should be a file"),
        (["segment", "IMAGES", "-o", "x"], "either --classes"),
        (["view", "nowhere"], "there is no file or folder `nowhere`"),
        (["figure", "sfp/supp-fig-1", "nowhere"], "there is no file or folder `nowhere`"),
        (["figure", "clearclip/fig-5", "IMAGES"], "--labels DIR"),
    ],
)
def test_what_is_missing_is_reported_before_a_model_is_loaded(arguments, message, folder, monkeypatch, capsys):
    def refuse(*_, **__):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(diagnostics.backbones, "load_backbone", refuse)
    monkeypatch.setattr(diagnostics, "load_backbone", refuse)
    arguments = [folder / "images" if word == "IMAGES" else word for word in arguments]
    assert message in error_of(arguments, monkeypatch, capsys)


@pytest.mark.parametrize(
    "error, words",
    [
        (MemoryError(), ["not enough memory", "--batch"]),
        (RuntimeError("can't start new thread"), ["thread", "ulimit", "OMP_NUM_THREADS"]),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), ["not enough memory", "--size"]),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), ["not enough memory"]),
        (OSError("one\ntwo"), ["error: one two"]),
        (ValueError(), ["ValueError without a message"]),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(error, words, monkeypatch, capsys):
    def fail(**_):
        raise error

    monkeypatch.setattr(command_line, "app", fail)
    monkeypatch.setattr(sys, "argv", ["outliers"])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr().err
    assert stopped.value.code == 1
    assert printed.count("\n") == 1
    assert all(word in printed for word in words)


def test_other_errors_of_the_program_keep_their_traceback(monkeypatch):
    def fail(**_):
        raise RuntimeError("a fault")

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        main()


@pytest.mark.parametrize("columns", ["0", "1", "-4", "x"])
def test_a_useless_width_hides_no_error(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    assert "`/nope`" in error_of(["probe", "/nope"], monkeypatch, capsys)


def test_plain_values_for_json():
    values = {"a": np.float32(0.5), "b": float("nan"), 1: (np.int64(3), None, True), "c": np.array(2.0), "d": "x"}
    assert plain(values) == {"a": 0.5, "b": None, "1": [3, None, True], "c": 2.0, "d": "x"}


@pytest.mark.parametrize("command", [command.name for command in app.registered_commands])
def test_help_has_an_example_and_fits_80_columns(command):
    output = ran(command, "--help").output
    assert "Example: outliers " in output
    assert max(map(len, output.splitlines())) <= 80
    assert "--quiet" in output
    assert "--json" in output
