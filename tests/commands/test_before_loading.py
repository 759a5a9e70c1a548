"""Sizes and layers on the command line: what is refused before a model is loaded, and what is noted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from attention_outliers.commands import options
from attention_outliers.commands.fit import padding_note
from attention_outliers.commands.main import app

runner = CliRunner()
COMMANDS = {
    "probe": ["--measures", "norms"],
    "profile": ["--examine", "0", "--out", "p"],
    "compare": ["--detectors", "norm", "--no-stability", "--no-plots", "--purify", "none", "--out", "c"],
    "encode": ["--out", "f.safetensors"],
}


@pytest.fixture
def image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").save("a.png")
    return "a.png"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("spec", ["tiny:depth=2", "timm:vit_tiny_patch16_224@missing.safetensors"])
def test_sizes_and_layers_that_are_not_there_are_refused_before_a_model_is_loaded(command, spec, image, monkeypatch):
    def load(*_, **__):
        raise AssertionError("the model is loaded")

    monkeypatch.setattr(options, "load", load)
    asked = [command, image, "-b", spec, *COMMANDS[command]]
    result = runner.invoke(app, [*asked, "--size", "abc"])
    assert "`abc` is not a size" in str(result.exception)
    result = runner.invoke(app, [*asked, "--layer" if command == "encode" else "--layers", "40"])
    assert "got 40. This backbone has" in str(result.exception)
    result = runner.invoke(app, asked)
    assert "the model is loaded" in str(result.exception)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_size_that_is_no_whole_number_of_patches_is_noted_once(command, image):
    asked = [command, image, "-b", "tiny:depth=2", *COMMANDS[command]]
    result = runner.invoke(app, [*asked, "--size", "65"])
    Path("f.safetensors").unlink(missing_ok=True)
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.output.count("--size 65 is no multiple of the patch of 16: images are padded to 80") == 1
    result = runner.invoke(app, [*asked, "--size", "short:65", "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "padding" not in json.loads(result.stdout)


@pytest.mark.parametrize(
    ("size", "patch", "ways"),
    [
        ("225", (14, 14), "use 224 or 238."),
        ("230x224", (14, 14), "use 224 or 238x224."),
        ("20x31", (8, 16), "use 16x24 or 32."),
        ("9", (14, 14), "use 14."),
    ],
)
def test_the_note_names_the_sizes_of_whole_patches_on_either_side(size, patch, ways):
    assert padding_note(size, patch).endswith(ways)


@pytest.mark.parametrize("size", [None, "native", "short:225", "224", "238x224", (224, 238)])
def test_whole_patches_and_sizes_that_nobody_chose_are_not_noted(size):
    assert padding_note(size, (14, 14)) == ""
