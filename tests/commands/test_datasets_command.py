"""`outliers datasets` and `outliers prepare`: what they print, and the exit codes that scripts rely on."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from attention_outliers.commands.main import app

runner = CliRunner()


def ran(*arguments, code: int = 0) -> str:
    result = runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, (result.output, result.exception)
    return " ".join(result.output.split())


@pytest.fixture
def root(tmp_path):
    """Cityscapes with two images."""
    for city, label in (("frankfurt", 7), ("lindau", 26)):
        stem = f"val/{city}/{city}_000000_000019"
        for place, pixels in (
            (f"leftImg8bit/{stem}_leftImg8bit.png", np.zeros((4, 8, 3), np.uint8)),
            (f"gtFine/{stem}_gtFine_labelIds.png", np.full((4, 8), label, np.uint8)),
        ):
            path = tmp_path / "cityscapes" / place
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "cityscapes"


def test_the_list_names_every_data_set():
    from segment.datasets import DATASETS

    output = ran("datasets", "list")
    for name in DATASETS:
        assert f" {name} " in f" {output} "


def test_a_check_prints_what_is_wrong_and_fails(root):
    output = ran("datasets", "check", "cityscapes", "--root", root, code=1)
    assert "Cityscapes val, 19 classes: 2 of 500 images" in output
    assert "problem: 2 images instead of the 500" in output
    assert "opened 2 of 2 pairs" in output


def test_a_check_of_what_is_whole_succeeds(tmp_path):
    for place, pixels in (("images/a.png", np.zeros((4, 8, 3), np.uint8)), ("masks/a.png", np.ones((4, 8), np.uint8))):
        (tmp_path / place).parent.mkdir()
        Image.fromarray(pixels).save(tmp_path / place)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert "nothing is wrong" in ran("datasets", "check", "folder", "--root", tmp_path, "--all")


@pytest.mark.parametrize("command", [("prepare",), ("datasets", "prepare")])
def test_prepare_writes_train_ids_and_counts_them(root, tmp_path, command):
    output = ran(*command, "cityscapes", "--root", root, "--out", tmp_path / "out", code=1)  # 2 are not 500
    assert "2 of 500 label maps" in output
    path = tmp_path / "out/gtFine/val/lindau/lindau_000000_000019_gtFine_labelTrainIds.png"
    assert np.unique(np.array(Image.open(path))).tolist() == [13]


def test_an_unknown_data_set_is_an_error_with_the_near_name(root):
    result = runner.invoke(app, ["datasets", "check", "cityscape", "--root", str(root)])
    assert isinstance(result.exception, ValueError)
    assert "Did you mean `cityscapes`" in str(result.exception)
