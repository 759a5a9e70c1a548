"""`outliers profile`: files, page, table, several backbones, a stored run, and one that fails."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from attention_outliers.commands.main import app
from attention_outliers.profile_page import sentences, summary_table
from diagnostics.studies.profile import Profile


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for level in range(20, 220, 20):
        pixels = (level + generator.integers(0, 8, (112, 112, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{level:03}.png")
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["profile", *map(str, arguments)])


def test_two_backbones_have_a_file_each_a_page_and_a_table(photos, tmp_path):
    out = tmp_path / "out"
    done = run(photos, "-b", "tiny:outliers=true", "-b", "tiny:seed=1", "-b", "tiny:nothing=1", "--out", out, "--json")
    assert done.exit_code == 1  # the third backbone does not exist; the others are there
    record = json.loads(done.stdout)
    assert list(record["failed"]) == ["tiny:nothing=1"]
    layers = {row["backbone"]: row["first layer"] for row in record["backbones"]}
    assert (layers["tiny:outliers=true"], layers["tiny:nothing=1"]) == (6, None)
    files = sorted(out.glob("profile*.json"))
    assert len(files) == 2
    facts = [json.loads(file.read_text()) for file in files]
    assert {entry["backbone"] for entry in facts} == {"tiny:outliers=true", "tiny:seed=1"}
    first = next(entry for entry in facts if entry["backbone"] == "tiny:outliers=true")
    assert first["first_layer"] == 6
    assert first["weights"]
    assert first["verdict"].startswith(("norm outliers", "both"))
    assert set(first["threshold"]) == {str(layer) for layer in range(1, 13)}
    table = pd.read_parquet(out / "profile.parquet")
    assert table.groupby("backbone").size().tolist() == [12, 12]
    page = (out / "profile.html").read_text()
    assert page.count("<h2>") == 3
    assert page.count("data:image/png") == 4
    assert "http" not in page
    assert "tiny:nothing=1: failed" in page
    assert "<td>None</td>" not in page
    assert "&lt;NA&gt;" not in page


def test_a_stored_run_is_profiled_without_a_model(photos, tmp_path):
    first = run(photos, "-b", "tiny:outliers=true", "--out", tmp_path / "a", "--store")
    assert first.exit_code == 0, first.output
    again = run("--from", tmp_path / "a" / "run.zarr", "--out", tmp_path / "b")
    assert again.exit_code == 0, again.output
    made, stored = (json.loads((tmp_path / name / "profile.json").read_text()) for name in "ab")
    for name in ("verdict", "threshold", "weights", "first_layer"):
        assert made[name] == stored[name]
    assert "Not measured: the model" in again.output


def test_images_and_a_stored_run_together_are_refused(photos, tmp_path):
    assert run("--out", tmp_path).exit_code != 0
    assert run(photos, "--from", tmp_path, "--out", tmp_path).exit_code != 0


def test_the_sentences_say_what_was_measured():
    facts = {
        "places": {"border": 1.0, "border_by_chance": 0.25, "corner": 0.5, "corner_by_chance": 0.3, "fixed": 0.9,
                   "fixed_by_chance": 0.01, "fixed_p": 0.005},
        "channels": [{"channel": 41, "share": 0.9}, {"channel": 2, "share": 0.01}],
        "units": [{"layer": 8, "unit": 417, "share": 0.98}],
        "first_layer": 8,
        "effect": [{"layer": 8, "k": 0, "what": "entropy", "difference": 0.3, "low": 0.2, "high": 0.4, "images": 4},
                   {"layer": 8, "k": 0, "what": "same first class", "outliers": -0.25, "random": 0.0,
                    "difference": -0.25, "low": -0.5, "high": 0.0, "images": 4}],
    }  # fmt: skip
    where, carried, effect = sentences(facts)
    assert "100 % lie at the border (25 % by chance)" in where
    assert "the same in different images" in where
    assert carried == "Carried by channel 41 (90 %); written in block 8 by hidden unit 417 (98 %)."
    assert (
        "entropy +0.300 [+0.200, +0.400]; the first class stays in 75 % of the images (random patches: 100 %)" in effect
    )


def test_the_attention_of_outliers_stands_in_the_table_whichever_test_found_it():
    facts = {"outliers_per_image": 4.0, "typical": 30.0, "images": 3, "first_layer": 8, "verdict": "norm outliers: 4"}
    made = {
        "outliers": Profile(facts | {"attention": 0.8}),
        "both": Profile(facts | {"attention": 0.3, "sink_share": 0.6}),
        "none": Profile(facts | {"first_layer": None, "attention": None}),
    }
    shares = summary_table(made).set_index("backbone")["their attention"]
    assert shares.iloc[:2].tolist() == [0.8, 0.6]
    assert np.isnan(shares["none"])
