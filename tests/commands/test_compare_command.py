"""`outliers compare` answers all its questions, and tells what it can't."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image
from typer.testing import CliRunner

from attention_outliers.commands.compare_options import planted_of
from attention_outliers.commands.main import app, main
from diagnostics import load_backbone
from diagnostics.studies.purification import purification_table
from diagnostics.studies.scoring import score_images

runner = CliRunner()
DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "comparing.md").read_text(encoding="utf-8")
SOME = "norm-topk:count=2,relative-norm,random"


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number in range(3):
        generator = np.random.default_rng(number)
        pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
        labels = generator.integers(0, 2, (4, 4)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / "labels" / f"{number}.png")
    (tmp_path / "shown.csv").write_text("image,class\n0.png,cat\n1,dog\n2.png,cat\n")
    return tmp_path


def ran(folder, *arguments):
    command = ["compare", folder / "images", "-o", folder / "out", *arguments]
    result = runner.invoke(app, [str(argument) for argument in command], env={"COLUMNS": "160"})
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def tables_of(folder):
    return {path.stem: pd.read_parquet(path) for path in (folder / "out").glob("*.parquet")}


def drawn_in(folder):
    return {path.name for path in (folder / "out" / "figures").iterdir()}


def test_all_tables_scores_figures_and_findings_are_written(folder):
    output = ran(
        folder, "-b", "tiny", "-d", SOME, "--layers", "3,6", "--plant", "k=1,3 scattered clustered", "--truth-norm", 1,
        "--thresholds", 5, "--labels", folder / "labels", "--purifiers", "neighbor-mean,keep", "--purify",
        "norm-topk:count=2,norm:threshold=2",
    )  # fmt: skip
    for word in (
        "tokens marked",
        "ROC-AUC against planted outliers, scattered",
        "side by side",
        "same tokens after",
        "· ",
    ):
        assert word in output
    assert "purifying what norm-topk:count=2 marks" in " ".join(output.split())
    tables = tables_of(folder)
    assert tables.keys() == {
        "thresholds", "agreement", "seconds", "truth", "planted", "location", "stability", "purification",
    }  # fmt: skip
    described = DOCUMENT.partition("## Tables")[2]
    assert tables.keys() == set(re.findall(r"^\| `(\w+)` \|", described, flags=re.MULTILINE))
    columns = {column for table in tables.values() for column in table}
    named = re.findall(r"`([a-z_0-9]+)`", "".join(re.findall(r"^\| `.*", described, flags=re.MULTILINE)))
    assert set(named) <= columns | tables.keys() | {"_all"}
    purification = tables["purification"]
    assert set(purification["detector"]) == {"norm-topk:count=2", "norm:threshold=2"}
    assert (purification.loc[purification["purifier"] == "keep", "delta_auc"] == 0).all()
    for column in ("background", "background_all", "contrast", "border"):
        assert column in tables["location"]
        assert column in tables["thresholds"]
    published = tables["thresholds"][tables["thresholds"]["own"]].set_index(["detector", "layer"])
    assert published.loc[("norm-topk:count=2", 3), "tokens"] == 2
    planted = tables["planted"].set_index(["detector", "planted", "clustered", "layer"])
    for clustered in (False, True):
        assert planted.loc[("relative-norm", 3, clustered, 3), "auc"] == 1
    assert set(tables["stability"]["change"]) == {"shift", "flip", "size", "jpeg"}
    scores = xr.open_zarr(folder / "out" / "scores.zarr", consolidated=False)
    assert scores["score"].dims == ("detector", "image", "layer", "row", "col")
    assert scores["detector"].values.tolist() == SOME.split(",")
    wanted = {"thresholds.png", "purification_norm_threshold_2.pdf", "agreement_jaccard_layer_6.png"}
    wanted |= {f"planted_roc_k{k}_{how}_layer_3.png" for k in (1, 3) for how in ("scattered", "clustered")}
    assert wanted <= drawn_in(folder)
    assert [name for name in drawn_in(folder) if name.startswith("scores_")]


def test_the_truth_by_norm_is_that_of_the_same_pass(folder):
    ran(
        folder, "-b", "tiny", "-d", "random", "--layers", "3", "--truth-norm", 13.1, "--no-stability",
        "--purify", "none", "--no-plots",
    )  # fmt: skip
    norms = score_images(load_backbone("tiny"), folder / "images", ["norm"], layers=[3])["score"]
    tables = tables_of(folder)
    assert 0 < tables["truth"].loc[0, "outliers"] == int((norms > 13.1).sum()) < norms.size
    assert tables["truth"]["detector"].tolist() == ["random"]
    assert not {"stability", "purification"} & tables.keys()
    assert not (folder / "out" / "figures").exists()


def test_without_any_option_every_question_is_answered_that_needs_no_labels(folder):
    output = ran(folder, "-b", "tiny", "--detectors", "relative-norm,random", "--layers", "6")
    tables = tables_of(folder)
    assert {"thresholds", "agreement", "seconds", "location", "stability", "purification"} == tables.keys()
    assert tables["purification"]["class_cosine"].notna().any()
    # `tiny` has no outliers: a table of cosines of 1 would say nothing.
    assert not tables["purification"]["marked"].any()
    assert "Nothing was purified: relative-norm marks no token in these layers." in output
    assert "cosine of the class token" not in output
    assert "First layer" in output or "never mark" in output


def test_planted_outliers_cannot_be_seen_by_what_comes_before_them(folder):
    output = ran(folder, "-b", "tiny", "-d", "som,relative-norm", "--layers", "3,6", "--plant", "k=2", "clustered",
                 "--no-stability", "--purify", "none", "--no-plots")  # fmt: skip
    assert tables_of(folder)["planted"]["clustered"].all(), "the word belongs to --plant without quotes as well"
    planted = tables_of(folder)["planted"].set_index(["detector", "layer"])["auc"]
    assert np.isnan(planted["som", 3])
    assert planted["relative-norm", 3] == 1
    assert np.isfinite(planted["som", 6])
    judged = output.partition("ROC-AUC against planted outliers")[2].splitlines()
    assert next(line for line in judged if line.startswith("som")).split()[1] == "-"


@pytest.mark.parametrize("backbone", ["tiny", "tiny:class_token=false"])
def test_the_accuracy_before_and_after_purifying_is_reported(folder, backbone):
    rows = folder / "rows.json"
    rows.write_text('{"cat": [0, 3], "dog": [1]}')
    by_rows = backbone != "tiny"
    output = ran(
        folder, "-b", backbone, "-d", "norm", "--layers", "3", "--purify", "norm-topk:count=3", "--purifiers", "zero",
        "--no-stability", "--no-plots", "--classes", "cat, dog", "--truth", folder / "shown.csv",
        *(["--class-embeddings", rows] if by_rows else []),
    )  # fmt: skip
    model = load_backbone(backbone)
    expected = purification_table(
        model, folder / "images", detector="norm-topk:count=3", purifiers=["zero"], layers=[3],
        classes={"cat": [0, 3], "dog": [1]} if by_rows else ["cat", "dog"], truth=[0, 1, 0],
    )  # fmt: skip
    purification = tables_of(folder)["purification"]
    columns = ["accuracy_before", "accuracy_after"]
    pd.testing.assert_frame_equal(purification[columns], expected[columns])
    assert purification["accuracy_after"].notna().any()
    assert "zero-shot accuracy" in output


def test_the_python_of_the_document_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (block,) = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(block.replace('"pocket"', '"tiny"').replace("[4, 35]", "[2, 5]"), names)
    table = names["table"]
    assert isinstance(table, pd.DataFrame)
    assert set(table["planted"]) == {0, 2, 5}


def test_ignored_labels_and_background_are_those_of_every_table(folder):
    """Three classes, one of them ignored, another background: purification and locations as from Python."""
    for number in range(3):
        labels = np.random.default_rng(10 + number).integers(0, 3, (4, 4)).repeat(16, 0).repeat(16, 1).astype(np.uint8)
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    ran(
        folder, "-b", "tiny", "-d", "norm-topk:count=3", "--layers", "3", "--purify", "norm-topk:count=3",
        "--purifiers", "zero", "--no-stability", "--no-plots", "--labels", folder / "labels", "--ignore", "1",
        "--background", "2",
    )  # fmt: skip
    model, tables = load_backbone("tiny"), tables_of(folder)
    settings = {"detector": "norm-topk:count=3", "purifiers": ["zero"], "layers": [3], "labels": folder / "labels"}
    expected = purification_table(model, folder / "images", **settings, ignore=(1,))
    columns = ["auc_before", "auc_after", "delta_auc", "delta_auc_last"]
    pd.testing.assert_frame_equal(tables["purification"][columns], expected[columns])
    default = purification_table(model, folder / "images", **settings)
    assert (expected["auc_before"] - default["auc_before"]).abs().min() > 1e-3
    patches = np.stack([np.asarray(Image.open(folder / "labels" / f"{n}.png"))[::16, ::16] for n in range(3)])
    marked = score_images(model, folder / "images", ["norm-topk:count=3"], layers=[3])["marked"].values[0, :, 0]
    labeled = marked & (patches != 1)
    row = tables["location"].iloc[0]
    assert row["labeled"] == labeled.sum()
    assert row["background"] == pytest.approx((labeled & (patches == 2)).sum() / labeled.sum())
    assert row["background_all"] == pytest.approx((patches == 2).sum() / (patches != 1).sum())


def test_what_was_left_out_is_reported_at_the_end(folder):
    (folder / "images" / "bad.png").write_bytes(b"no image")
    (folder / "labels" / "1.png").unlink()
    output = ran(folder, "-b", "tiny", "-d", "norm", "--layers", "3", "--labels", folder / "labels", "--no-plots",
                 "--no-stability")  # fmt: skip
    assert "left out (2)" in output
    assert output.count("bad.png") == 1
    assert output.count("not labeled") == 1


@pytest.mark.parametrize(
    "text, planted",
    [
        (None, ([], [])),
        ("k=1,4", ([1, 4], [False])),
        ("k=35 clustered", ([35], [True])),
        ("2", ([2], [False])),
        ("k=1, 4 clustered scattered", ([1, 4], [False, True])),
    ],
)
def test_what_to_plant_is_read_from_text(text, planted):
    assert planted_of(text) == planted
    with pytest.raises(ValueError, match="--plant"):
        planted_of("many")


def test_help_teaches_the_form_of_what_it_takes():
    text = " ".join(runner.invoke(app, ["compare", "--help"], env={"COLUMNS": "200"}).output.replace("│", " ").split())
    for word in (
        "k=1,4,10",
        "image,class",
        "'cat, dog, horse'",
        "a.jpg,cat",
        "norm:threshold=100,lof-release",
        "Example",
    ):
        assert word in text, word


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["-d", "lof:neighbors=20"], "16 patches can't have 20 neighbors"),
        (["-d", "som", "-b", "tiny:class_token=false"], "`som` can't run on `tiny:class_token=false`"),
        (["-d", "norm", "--layers", "13"], "0…12"),
        (["-d", "norm", "--layers", "0"], "1…12"),
        (["-d", "norm:threshold=high"], "`threshold` of detector `norm` should be float; got `high`"),
        (["-d", "norm:threshold=nan"], "should be a finite number; got `nan`"),
        (["-d", "nrom"], "Did you mean `norm`"),
        (["-d", "norm", "--plant", "k=a"], "--plant"),
        (["-d", "norm", "--plant", "k=17"], "from 1 to the 16 patches"),
        (["-d", "norm", "--truth-norm", "nan"], "`--truth-norm` should be a finite number"),
        (["-d", "norm", "--ignore", "sky"], "`--ignore` should be label numbers"),
        (["-d", "norm", "--purify", "nrom"], "Did you mean `norm`"),
        (["-d", "norm", "--purifiers", "purified"], "there is no purifier `purified`"),
        (["-d", "norm", "--labels", "nowhere"], "nowhere"),
        (["-d", "norm", "--classes", "cat"], "`--classes` and `--truth` go together"),
        (["-d", "norm", "--truth", "shown.csv"], "`--classes` and `--truth` go together"),
        (["-d", "norm", "--classes", "cat", "--truth", "shown.csv"], "there is no class for the image `1.png` `dog`"),
        (["-d", "norm", "--classes", "cat, dog", "--truth", "none.csv"], "none.csv"),
        (["-d", "norm", "--classes", "cat, dog", "--truth", "shown.csv", "--purify", "none"], "`--purify none`"),
        (
            ["-d", "norm", "-c", "cat, dog", "--truth", "shown.csv", "--class-embeddings", "shown.csv"],
            "has a text tower instead",
        ),
    ],
)
def test_bad_input_is_reported_in_one_line_with_the_next_step(folder, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    backbone = [] if "-b" in arguments else ["-b", "tiny"]
    monkeypatch.setattr(sys, "argv", ["outliers", "compare", str(folder / "images"), "-o", "x", *arguments, *backbone])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == 1
    assert message in error
    assert "Traceback" not in error
    assert not Path("x").exists(), "what can't be done is reported before the work"
