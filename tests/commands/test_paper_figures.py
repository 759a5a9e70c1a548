"""Every figure of the catalogue is drawn on a tiny backbone, and the command says what a figure lacks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from commands.figure import scenes_of
from commands.main import app
from commands.paper_figures import CATALOGUE, paper_figure
from diagnostics import load_backbone
from segment.datasets.shapes import NAMES
from segment.text import text_features

runner = CliRunner()


@pytest.fixture(scope="module")
def inputs():
    backbone = load_backbone("tiny:outliers=true,size=96")
    text = text_features(backbone, list(NAMES), "plain", progress=False)
    return replace(scenes_of(2, backbone), text=text)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_a_figure_comes_out_with_every_axes_described(name, inputs):
    entry = CATALOGUE[name]
    figure = entry.draw(inputs.only(0) if entry.each else inputs)
    assert isinstance(figure, Figure)
    assert figure.axes
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel() or axes.get_title(loc="left") or axes.get_label()
    assert entry.shows


def test_the_command_writes_png_and_pdf(tmp_path):
    arguments = ["figure", "clearclip/fig-4a", "--scenes", "2", "-b", "tiny", "--second", "tiny:seed=1"]
    result = runner.invoke(app, [*arguments, "--templates", "plain", "-o", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    assert {path.name for path in tmp_path.iterdir()} == {"clearclip-fig-4a.png", "clearclip-fig-4a.pdf"}
    assert "the paper:" in result.output


def test_the_list_has_a_line_for_every_figure():
    result = runner.invoke(app, ["figure", "list"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == list(CATALOGUE)


def test_an_unknown_figure_is_refused_with_the_near_name():
    with pytest.raises(ValueError, match="clearclip/fig-4a"):
        paper_figure("clearclip/fig4a")


def test_a_figure_says_that_it_lacks_labels(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    result = runner.invoke(app, ["figure", "clearclip/fig-3", str(tmp_path / "a.png"), "-b", "tiny"])
    assert isinstance(result.exception, ValueError)
    assert "--labels DIR" in str(result.exception)
