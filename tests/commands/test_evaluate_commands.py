"""`outliers evaluate` and `table`, as a user types them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from attention_outliers.commands.evaluate_options import settings_of
from attention_outliers.commands.main import app

runner = CliRunner()
SHAPES = "shapes:scenes=3,height=48,width=64"


def ran(*arguments, code=0):
    result = runner.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})
    assert result.exit_code == code, (result.output, result.exception)
    return result.output if code == 0 else str(result.exception)


def test_evaluate_prints_and_writes_numbers_and_table_prints_them_again(tmp_path):
    asked = ("evaluate", "--dataset", SHAPES, "-b", "tiny", "--method", "clip,clearclip", "--workers", 1)
    output = ran(*asked, "--out", tmp_path / "a", "--set", "scale=50", "--set", "templates=plain")
    assert "protocol ours (scale=50.0, templates=plain)" in output
    assert "3 of 3 images" in output
    note = json.loads((tmp_path / "a" / "cells" / "clip.json").read_text())
    assert note["settings"]["protocol"]["scale"] == 50
    ran(*asked, "--out", tmp_path / "b", "--limit", 2)
    table = ran("table", tmp_path, "--form", "markdown")
    assert table.count("| clip |") == 2
    assert note["hash"] in table
    compared = ran("table", tmp_path / "a", "--compare", "clip,clearclip")
    assert "clearclip - clip" in compared
    assert "of 1000 resamples" in compared


@pytest.mark.parametrize(
    "options, message",
    [
        (("--set", "scale"), "name=value"),
        (("--set", "skale=3"), "Did you mean `scale`"),
        (("--protocol", "sfpp"), "Did you mean `sfp`"),
        (("--dataset", "voc20"), "--root"),
        (("--dataset", "voc2"), "voc2"),
        (("--method", "clip,clip"), "once"),
        (("--address", "auto"), "--engine ray"),
        (("--protocol", "sfp", "--set", "threshold=0.3"), "background"),
    ],
)
def test_wrong_options_say_what_was_expected(tmp_path, options, message):
    filled = {
        "--dataset": SHAPES,
        "--method": "clip",
        "--backbone": "tiny",
        "--workers": 1,
        "--out": tmp_path / "out",
    }
    filled |= dict(zip(options[::2], options[1::2], strict=True))
    arguments = [part for pair in filled.items() for part in pair]
    assert message in ran("evaluate", *arguments, code=1)


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    asked = ("evaluate", "--dataset", SHAPES, "-b", "tiny", "-M", "clip", "--workers", 1, "--out", tmp_path)
    ran(*asked)
    assert "other settings (protocol.hash, protocol.scale)" in ran(*asked, "--set", "scale=41", code=1)


def test_table_of_two_methods_needs_two(tmp_path):
    ran("evaluate", "--dataset", SHAPES, "-b", "tiny", "-M", "clip", "--workers", 1, "--out", tmp_path)
    assert "two or more methods" in ran("table", tmp_path, "--compare", "clip", code=1)
    assert "no results" in ran("table", tmp_path / "nothing", code=1)


def test_list_shows_the_protocols():
    output = ran("list", "protocols")
    assert "ours" in output
    assert "sc-clip" in output


def test_a_setting_of_the_protocol_given_twice_is_refused():
    assert settings_of(["smallest-area=0.1", "scale = 2"]) == {"smallest_area": "0.1", "scale": "2"}
    with pytest.raises(ValueError, match=r"`--set` sets `smallest_area` twice, to 0.1 and 0.2"):
        settings_of(["smallest-area=0.1", "smallest_area=0.2"])
