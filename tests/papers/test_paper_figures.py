"""Every figure of `PAPER_FIGURES` is drawn on a tiny backbone, and the command says what a figure lacks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from attention_outliers.commands.main import app
from attention_outliers.papers.figure_maps import folded, mask_map, named_after
from attention_outliers.papers.figures import PAPER_FIGURES, paper_figure
from attention_outliers.papers.inputs import scenes_of
from diagnostics import load_backbone
from diagnostics.detectors.relative_norm import RelativeNorm
from segment.datasets.shapes import NAMES
from segment.text.features import text_features

runner = CliRunner()


@pytest.fixture(scope="module")
def inputs():
    backbone = load_backbone("tiny:outliers=true,size=96")
    text = text_features(backbone, list(NAMES), "plain", progress=False)
    return replace(scenes_of(2, backbone), text=text)


@pytest.mark.parametrize("name", sorted(PAPER_FIGURES))
def test_a_figure_comes_out_with_every_axes_described(name, inputs):
    entry = PAPER_FIGURES[name]
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
    result = runner.invoke(app, ["figure", "list", "--json"])
    assert result.exit_code == 0
    assert [row["name"] for row in json.loads(result.output)["figures"]] == list(PAPER_FIGURES)


def test_an_unknown_figure_is_refused_with_the_near_name():
    with pytest.raises(ValueError, match="clearclip/fig-4a"):
        paper_figure("clearclip/fig4a")


def test_a_figure_says_that_it_lacks_labels(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    result = runner.invoke(app, ["figure", "clearclip/fig-3", str(tmp_path / "a.png"), "-b", "tiny"])
    assert isinstance(result.exception, ValueError)
    assert "--labels DIR" in str(result.exception)


def bars_of(axes):
    """Label of a kind of bars -> their heights."""
    return {bars.get_label(): [bar.get_height() for bar in bars] for bars in axes.containers}


def test_scores_stand_beside_what_the_paper_prints(inputs):
    ours, printed = PAPER_FIGURES["cliptrase/fig-1a"].draw(inputs).axes
    scored = inputs.scored(["clip", "cliptrase"])
    assert bars_of(ours) == {name: [pytest.approx(value)] for name, value in scored.items()}
    names = [label.get_text() for label in printed.get_xticklabels()]
    assert bars_of(printed)["cliptrase"][names.index("voc20")] == 81.2  # its Table 1
    assert bars_of(printed)["clip"][names.index("ade847")] == 0.79
    assert [text.get_text() for text in ours.figure.legends[0].get_texts()] == ["clip", "cliptrase"]


def test_streams_have_the_names_of_the_paper(inputs):
    figure = PAPER_FIGURES["clearclip/fig-4a"].draw(inputs)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["X_res", "X_attn", "X_sum"]


def test_norms_of_two_backbones_stand_side_by_side(inputs):
    other = load_backbone("tiny:class_token=false,size=96")  # without words, and so without scores
    figure = PAPER_FIGURES["clearclip/fig-2"].draw(replace(inputs, second=other))
    names = [axes.get_ylabel().splitlines() for axes in figure.axes]
    assert [(what, spec) for what, spec in names] == [
        ("Frobenius norm", inputs.backbone.spec),
        ("mIoU, per cent", inputs.backbone.spec),
        ("Frobenius norm", other.spec),
    ]
    residual = bars_of(figure.axes[0])["X_res"]
    assert residual == [pytest.approx(residual[0])] * 6  # what enters the block does not know the kind


def test_label_maps_of_what_the_last_block_adds_up_have_their_names(inputs):
    figure = PAPER_FIGURES["clearclip/fig-3-maps"].draw(inputs.only(0))
    assert [axes.get_label() for axes in figure.axes] == ["image", "truth", "X_sum", "X_res", "X_attn"]
    with_words = PAPER_FIGURES["clearclip/fig-1"].draw(inputs)
    labels = [axes.get_label() for axes in with_words.axes]
    assert sum(label.endswith("X_res alone") for label in labels) == len(inputs.images)
    assert {text.get_text() for text in with_words.legends[0].get_texts()} <= set(NAMES)
    bare = PAPER_FIGURES["clearclip/fig-1"].draw(replace(inputs, text=None))
    assert not bare.legends
    assert not any(axes.get_label().endswith("alone") for axes in bare.axes)


def test_purified_maps_lose_the_largest_norm_and_keep_the_rest(inputs):
    figure = PAPER_FIGURES["ours/purification-maps"].draw(inputs.only(0))
    layer = inputs.backbone.depth - 1
    norms = {
        axes.get_label().partition(" norm")[0]: np.asarray(axes.images[0].get_array(), float)
        for axes in figure.axes
        if axes.get_label().endswith(f"norm, layer {layer}")
    }
    assert list(norms) == ["before", "neighbor-mean", "neighbor-median", "image-mean", "zero"]
    recording = inputs.record("block_out", layers=[layer])
    mask = mask_map(inputs.layout, RelativeNorm()(recording.at(layer), inputs.layout).mask[0])
    tokens = inputs.layout.patches(recording["block_out", layer])[0].norm(dim=-1)
    assert mask.any()
    for name in ("neighbor-mean", "image-mean", "zero"):
        assert norms[name][mask].max() < norms["before"][mask].min()
    shown = folded(inputs.layout, tokens)[~mask]
    # A logarithmic scale shows what lies below it as its lowest value.
    np.testing.assert_allclose(norms["zero"][~mask], np.maximum(shown, norms["zero"][~mask].min()), rtol=1e-4)


def test_heat_maps_are_of_words_that_the_image_shows(inputs):
    figure = PAPER_FIGURES["sc-clip/fig-9"].draw(inputs.only(0))
    there = {NAMES[number] for number in np.unique(inputs.labels[0])}
    heads = [axes.get_label().removeprefix("clip ") for axes in figure.axes if axes.get_label().startswith("clip ")]
    assert heads[0] == "image"
    assert there <= set(heads[1:]) or set(heads[1:]) <= there
    assert {(a.images[0].norm.vmin, a.images[0].norm.vmax) for a in figure.axes if a.get_label() == "sc-clip sand"} <= {
        (0, 1)
    }


def test_clusters_keep_the_color_of_those_they_share_most_with():
    before = np.array([[0, 0, 1], [0, 2, 2], [-1, 2, 2]])
    after = np.array([[1, 1, -1], [1, 0, 0], [2, 0, 0]])
    assert named_after(after, before).tolist() == [[0, 0, -1], [0, 2, 2], [3, 2, 2]]
    nothing = np.full((2, 2), -1)
    assert named_after(nothing, before[:2, :2]).tolist() == nothing.tolist()
    assert named_after(before, np.full((3, 3), -1)).tolist() == before.tolist()


def test_a_timeline_without_outliers_lies_at_the_bottom(inputs):
    plain = replace(inputs, backbone=load_backbone("tiny:size=96"), text=None)
    (axes,) = PAPER_FIGURES["ours/timeline"].draw(plain).axes
    assert not axes.lines[0].get_ydata().any()
    assert axes.get_ylim()[0] < 0 < 0.1 < axes.get_ylim()[1]
    assert axes.get_ylim()[0] > -0.1
