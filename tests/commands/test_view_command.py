"""`outliers view` writes one page and tells what it can't."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from attention_outliers.commands.main import app
from attention_outliers.view_page import DETECTORS, usable_detectors, view_page
from diagnostics import load_backbone
from diagnostics.options import RunOptions
from figures.view.packing import unpack

runner = CliRunner()


@pytest.fixture
def images(tmp_path):
    for number, shape in enumerate([(64, 64, 3), (48, 80, 3)]):
        pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return [str(tmp_path / f"{number}.png") for number in range(2)]


def data_of(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_one_page_holds_maps_outliers_and_label_maps(images, tmp_path):
    out = tmp_path / "new" / "page.html"
    arguments = ["view", *images, "-b", "tiny", "-o", str(out), "--classes", "cat, dog", "-M", "clip,clearclip"]
    arguments += ["-d", "relative-norm,norm-topk:count=2"]
    result = runner.invoke(app, [*arguments, "--windows", "whole", "--templates", "plain", "--layers", "5,-1"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "page:" in result.output
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    shown = data_of(out)["images"]
    assert [packed["name"] for packed in shown] == ["0.png", "1.png"]
    for packed, shape in zip(shown, [(64, 64), (48, 80)], strict=True):
        assert packed["layers"] == [5, 12]
        assert [detector["spec"] for detector in packed["detectors"]] == ["relative-norm", "norm-topk:count=2"]
        assert list(packed["labels"]) == ["clip", "clearclip"]
        assert unpack(packed["labels"]["clip"]).shape == shape
        assert packed["classes"] == ["cat", "dog"]


def test_without_classes_there_are_no_label_maps(images, tmp_path):
    out = tmp_path / "page.html"
    left_out = view_page(load_backbone("tiny:class_token=false"), images, out, heads="mean")
    assert left_out == {}
    for packed in data_of(out)["images"]:
        assert packed["labels"] == {}
        assert packed["class_index"] is None


def test_a_page_that_fails_leaves_the_old_one_as_it_was(images, tmp_path):
    out = tmp_path / "page.html"
    out.write_text("old")
    with pytest.raises(ValueError, match="no detector"):
        view_page(load_backbone("tiny"), images, out, detectors=["nonsense"])
    assert out.read_text() == "old"
    assert not [path for path in tmp_path.iterdir() if "part" in path.name]


def test_methods_without_names_are_refused(images, tmp_path):
    result = runner.invoke(app, ["view", *images, "-b", "tiny", "-o", str(tmp_path / "p.html"), "-M", "clip"])
    assert isinstance(result.exception, ValueError)
    assert "--classes" in str(result.exception)


def test_default_detectors_are_those_that_can_run(images):
    assert usable_detectors(load_backbone("tiny"), images, RunOptions(size=160)) == list(DETECTORS)
    # `lof` compares with 20 neighbors, and an image of 64 x 64 has 16 patches.
    assert usable_detectors(load_backbone("tiny"), images, RunOptions(size=64)) == [
        name for name in DETECTORS if name != "lof"
    ]
