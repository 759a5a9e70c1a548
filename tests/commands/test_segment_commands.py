"""`outliers segment`, `classify` and `encode --method`, as a user types them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner

from attention_outliers.commands.main import app
from diagnostics import load_backbone
from diagnostics.images import load_image
from segment.datasets.shapes import NAMES
from segment.encoders.encode_many import encode_many
from segment.segmenter import Segmenter
from segment.text.features import text_features

runner = CliRunner()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    return tmp_path


def ran(*arguments, code=0):
    result = runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    assert result.exit_code == code, (result.output, result.exception)
    return result.output if code == 0 else str(result.exception)


def test_methods_fed_by_a_profile_keep_the_names_that_were_typed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    ran("profile", "in", "-b", "tiny:depth=4", "--examine", 0, "--out", "prof")
    other = shutil.copy("prof/profile.json", "prof/other.json")
    asked = ("segment", "in", "--classes", "cat, dog", "-b", "tiny:depth=4", "--method", "sc-clip,sc-clip:detector=som")
    asked += ("--templates", "plain", "--no-overlays", "--out", "out")
    output = ran(*asked, "--profile", "prof/profile.json")
    assert "profile: prof/profile.json says which patches are outliers in sc-clip\n" in output
    assert {path.name for path in (folder / "out").iterdir() if path.is_dir()} == {"sc-clip", "sc-clip-detector=som"}
    methods = json.loads((folder / "out" / "settings.json").read_text())["methods"]
    assert "prof/profile.json" in methods["sc-clip"]["detector"]
    assert "profile" not in methods["sc-clip:detector=som"]["detector"]
    assert "other settings" in ran(*asked, "--profile", other, code=1)


def test_segment_writes_label_maps_overlays_descriptions_and_a_sheet(folder):
    output = ran(
        "segment", folder / "in", "--classes", "cat, dog", "--background", "sky, wall", "-b", "tiny",
        "--method", "clip,sc-clip:detector=som,purifier=median,clearclip", "--templates", "plain",
        "--out", folder / "out",
    )  # fmt: skip
    methods = {path.name for path in (folder / "out").iterdir() if path.is_dir()}
    assert methods == {"clip", "sc-clip-detector=som,purifier=median", "clearclip", "sheets"}
    with Image.open(folder / "out" / "clip" / "0.labels.png") as image:
        assert image.size == (90, 70)
        labels = np.asarray(image)
    note = json.loads((folder / "out" / "clip" / "0.json").read_text())
    assert note["names"] == ["background", "cat", "dog"]
    assert {entry["number"]: entry["area"] for entry in note["classes"]} == pytest.approx(
        {number: float((labels == number).mean()) for number in np.unique(labels)}, abs=1e-6
    )
    assert (folder / "out" / "clip" / "0.overlay.png").exists()
    assert (folder / "out" / "sheets" / "1.png").exists()
    assert "mean share of the pixels over 2 images" in output


def test_positions_asked_for_are_those_of_every_method(folder):
    """Label maps as from the same method with the interpolation as its own setting, which the default is not."""
    words = ", ".join(NAMES)
    asked = ("segment", folder / "in", "--classes", words, "-b", "tiny", "--method", "clip,clearclip")
    ran(*asked, "--templates", "plain", "--windows", "whole", "--size", "native", "--positions", "bilinear",
        "--out", folder / "out", "--no-overlays")  # fmt: skip
    backbone = load_backbone("tiny")
    text = text_features(backbone, words, "plain", progress=False)
    for method in ("clip", "clearclip"):
        for number in range(2):
            with Image.open(folder / "out" / method / f"{number}.labels.png") as image:
                labels = np.asarray(image)
            photo = folder / "in" / f"{number}.png"
            specs = [f"{method}:positions=bilinear", method]
            (expected,), (default,) = (
                Segmenter(backbone, spec, text, windows="whole", size="native")([photo]) for spec in specs
            )
            assert np.array_equal(labels, expected.labels)
            assert (expected.labels != default.labels).any()


def test_segment_given_again_does_nothing_and_other_settings_are_refused(folder):
    asked = ("segment", folder / "in", "--classes", "cat, dog", "-b", "tiny", "--method", "clip", "--windows", "whole")
    ran(*asked, "--templates", "plain", "--out", folder / "out", "--no-overlays")
    assert not list((folder / "out").rglob("*.overlay.png"))
    assert "done already" in ran(*asked, "--templates", "plain", "--out", folder / "out")
    assert "other settings" in ran(*asked, "--templates", "photo", "--out", folder / "out", code=1)


@pytest.mark.parametrize(
    "options, message",
    [
        ((), "--classes"),
        (("--classes", "cat", "--classes-file", "x.txt"), "either --classes"),
        (("--classes", "cat, dog", "--method", "sclap"), "Did you mean `sclip`"),
        (("--classes", "cat, dog", "--threshold", "0.5"), "background"),
        (("--classes", "cat, dog", "--scale", "0"), "above 0"),
        (("--classes", "cat, dog", "--refine", "pamrr"), "pamr"),
        (("--classes", "cat, dog", "--separator", "; "), "for --classes-file"),
        (("--classes", "cat, dog", "--background", "sky", "--background-class", "0"), "either --background"),
        (("--classes", "cat, dog", "--background-class", "2"), "0…1"),
        (("--classes", "cat, dog", "--method", "clip,clip"), "tell them apart"),
    ],
)
def test_wrong_options_say_what_was_expected(folder, options, message):
    assert message in ran("segment", folder / "in", "-b", "tiny", "--out", folder / "out", *options, code=1)


def test_encode_writes_the_features_of_a_method(folder, tiny):
    ran("encode", folder / "in", "-b", "tiny", "--method", "clearclip", "--prefix", "--out", folder / "f.safetensors")
    image = load_image(folder / "in" / "0.png", size="64", mean=tiny.mean, std=tiny.std)
    with safe_open(folder / "f.safetensors", "pt") as file:
        maps, special = file.get_tensor("0.png"), file.get_tensor("0.png/prefix")
        assert "clearclip" in file.metadata()["features"]
    (expected,) = encode_many(tiny, image[None], ["clearclip"])
    torch.testing.assert_close(maps, expected.layout.to_map(expected.patches)[0])
    torch.testing.assert_close(special, expected.class_token)


def test_encode_refuses_a_method_together_with_a_layer(folder):
    message = ran("encode", folder / "in", "-b", "tiny", "-M", "clip", "--layer", 3, "--out", folder / "f", code=1)
    assert "leave --layer" in message


def test_classify_prints_answers_accuracy_and_writes_them(folder):
    (folder / "truth.csv").write_text("0.png,cat\n1.png,dog\n")
    output = ran(
        "classify", folder / "in", "--classes", "cat, dog", "-b", "tiny", "--templates", "plain",
        "--purifier", "sfp-sum,neighbor-mean", "--truth", folder / "truth.csv", "--out", folder / "a.parquet",
    )  # fmt: skip
    assert "top1" in output
    answers = pd.read_parquet(folder / "a.parquet")
    assert list(answers["way"].unique()) == ["stock", "sfp-sum", "neighbor-mean"]
    assert answers.groupby(["name", "way"])["probability"].sum().to_numpy() == pytest.approx(np.ones(6), abs=1e-5)


@pytest.mark.parametrize(
    ("truth", "message"),
    [("0.png,cat\n1.png\n", "row 2"), ("0.png,cat\n0.png,dog\n", "two classes"), ("7.png,cat\n", "such as `0.png`")],
)
def test_a_truth_that_leads_nowhere_is_refused(folder, truth, message):
    (folder / "truth.csv").write_text(truth)
    asked = ("--classes", "cat, dog", "-b", "tiny", "--templates", "plain", "--truth", folder / "truth.csv")
    assert message in ran("classify", folder / "in", *asked, code=1)


def test_a_file_with_background_words_first_and_a_word_twice_is_read_by_its_options(folder):
    """COCO-Object's released class-name file: «bed» is a word for the background and a class of its own."""
    (folder / "classes.txt").write_text("sky; bed; sea, calm\ncat\nbed\n")
    asked = (
        "segment", folder / "in", "--classes-file", folder / "classes.txt", "-b", "tiny", "--method", "clip",
        "--windows", "whole", "--templates", "plain", "--no-overlays",
    )  # fmt: skip
    assert "--background-class 0" in ran(*asked, "--out", folder / "out", code=1)
    ran(*asked, "--background-class", 0, "--threshold", 0.1, "--out", folder / "out")
    note = json.loads((folder / "out" / "clip" / "0.json").read_text())
    assert note["names"] == ["background", "cat", "bed"]
    assert note["settings"]["queries"] == [["sky", "bed", "sea, calm"], ["cat"], ["bed"]]
    assert note["settings"]["templates"] == "plain"
    ran(*asked, "--repeats", "--separator", ", ", "--out", folder / "repeated")
    note = json.loads((folder / "repeated" / "clip" / "0.json").read_text())
    assert note["settings"]["queries"] == [["sky; bed; sea", "calm"], ["cat"], ["bed"]]
    assert note["settings"]["background"] is None


def test_rows_of_a_classifier_are_combined_as_asked(folder):
    (folder / "rows.json").write_text('{"cat": [0, 1, 2], "dog": [3, 4]}')
    asked = (
        "segment", folder / "in", "--classes", "cat, dog", "--class-embeddings", folder / "rows.json",
        "--method", "clip", "-b", "tiny:registers=4", "--windows", "whole", "--size", "64", "--no-overlays",
    )  # fmt: skip
    words = set()
    for combine in ("mean", "each"):
        ran(*asked, "--combine", combine, "--out", folder / combine)
        words.add(json.loads((folder / combine / "settings.json").read_text())["words"])
    assert len(words) == 2


def test_a_run_whose_rest_cannot_be_read_ends_well_when_given_again(folder):
    (folder / "in" / "broken.png").write_bytes(b"no image")
    asked = ("segment", folder / "in", "--classes", "cat, dog", "-b", "tiny", "--method", "clip", "--windows", "whole")
    for _ in range(2):
        output = ran(*asked, "--templates", "plain", "--out", folder / "out", "--no-overlays")
        assert "left out (1)" in output
    assert "done already" in output


@pytest.mark.parametrize("what", ["methods", "windows", "refiners", "templates", "datasets"])
def test_every_list_of_segmentation_has_lines(what):
    assert len(ran("list", what).splitlines()) > 2


def test_brackets_in_names_of_classes_and_images_are_printed_as_they_are(folder):
    (folder / "in" / "0.png").rename(folder / "in" / "[red]0.png")
    shared = ["-b", "tiny", "-c", "[wooden] chair, [/b]"]
    output = ran("segment", folder / "in", *shared, "-M", "clip", "--no-overlays", "--out", folder / "out")
    assert "[wooden] chair" in output or "[/b]" in output
    output = ran("classify", folder / "in", *shared, "-d", "norm-topk", "-p", "zero")
    assert "[red]0.png" in output
    assert "[wooden] chair" in output
    assert "[/b]" in output
