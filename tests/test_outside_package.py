"""A package of somebody else, installed beside ours, brings parts: every command has them, in every process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

PACKAGE = Path(__file__).parent / "outside_package"


def command(*arguments, expect=0):
    """What `outliers` prints with the package on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "attention_outliers", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(PACKAGE), os.environ.get("PYTHONPATH", "")]), "COLUMNS": "200"},
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def test_a_part_that_does_not_load_is_listed_with_the_reason_by_every_list(tmp_path, monkeypatch):
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    groups = ("detectors", "methods", "measures", "purifiers", "datasets", "paper_figures")
    lines = (f"[attention_outliers.{group}]\ngone = no_such_module:X\n" for group in groups)
    (info / "entry_points.txt").write_text("".join(lines))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    for words in (*(("list", group) for group in groups[:-1]), ("figure", "list")):
        text = command(*words, "--json")
        json.loads(text)
        assert text.count("No module named 'no_such_module'") == 1, words
        assert text.count("can't be loaded") == 1, words


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    "kind, name, line",
    [
        ("detectors", "peak-share", "0.8 is an outside choice."),
        ("purifiers", "shorten", "Marked patches lose `share` of their length."),
        ("measures", "norm-spread", "norm_spread"),
        ("methods", "values", "Values to values, outside"),
        ("datasets", "halves", "Black left of white: two classes of somebody else."),
        ("edits", "needs-more", "No module named 'outside_parts.missing'"),
    ],
)
def test_lists_show_the_parts_and_what_is_broken(kind, name, line):
    table = command("list", kind, "--json")
    assert f'"{name}"' in table
    assert line in json.dumps(json.loads(table), ensure_ascii=False)


def test_the_list_of_figures_shows_them():
    assert "how many patches have which norm, by somebody else" in command("figure", "list", "--json")


@pytest.mark.slow
def test_compare_takes_a_detector_and_a_purifier(photos, tmp_path):
    parts = ["-d", "peak-share:threshold=0.7,relative-norm", "--purifiers", "shorten:share=0.25"]
    parts += ["--purify", "peak-share:threshold=0.3"]
    rest = ["--backbone", "tiny", "--layers", "6", "--no-stability", "--no-plots", "--out", tmp_path / "out", "--json"]
    output = command("compare", photos, *parts, *rest)
    assert all(name in output for name in ("peak-share:threshold=0.7", "shorten:share=0.25"))
    table = pd.read_parquet(tmp_path / "out" / "thresholds.parquet").reset_index()
    assert set(table["detector"]) == {"peak-share:threshold=0.7", "relative-norm"}


@pytest.mark.slow
def test_probe_takes_a_measure(photos, tmp_path):
    run = tmp_path / "run.zarr"
    command("probe", photos, "--backbone", "tiny", "--measures", "norms,norm-spread", "--out", run)
    dataset = xr.open_zarr(run)
    norms = dataset["norm"].values.reshape(2, 12, -1)
    expected = norms.std(axis=2, ddof=1) / norms.mean(axis=2)
    assert np.allclose(dataset["norm_spread"].transpose("image", "layer").values, expected, rtol=1e-4)


@pytest.mark.slow
def test_figure_draws_a_figure(photos, tmp_path):
    command("figure", "outside/norm-histogram", photos, "--backbone", "tiny", "--out", tmp_path)
    assert (tmp_path / "outside-norm-histogram.png").stat().st_size > 1000


ENGINES = [["--workers", "1"], ["--workers", "2"]]
if importlib.util.find_spec("ray") is not None:
    ENGINES.append(["--engine", "ray", "--workers", "1"])


def cells_of(folder, engine):
    """The results of an evaluation by this engine: method -> what it scored."""
    data = ["--dataset", "halves:count=2", "--method", "values,clip:scale=20", "--backbone", "tiny", "--shard", "1"]
    command("evaluate", *data, *engine, "--out", folder)
    cells = [json.loads(path.read_text()) for path in (folder / "cells").glob("*.json")]
    return {cell["method"]: (cell["hash"], cell["classes"]) for cell in cells}


@pytest.mark.slow
def test_evaluate_has_them_in_every_engine(tmp_path):
    first, *others = (cells_of(tmp_path / str(number), engine) for number, engine in enumerate(ENGINES))
    assert set(first) == {"values", "clip:scale=20"}
    assert [part["name"] for part in first["values"][1]] == ["black", "white"]
    assert others == [first] * len(others)
