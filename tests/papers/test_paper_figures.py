"""Every figure of the catalogue is drawn on a tiny backbone, and the command says what a figure lacks."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from attention_outliers.commands.main import app
from attention_outliers.papers import figure_maps
from attention_outliers.papers.clearclip.figures import architecture_table, scaling_table
from attention_outliers.papers.experiment_list import experiments
from attention_outliers.papers.figure_maps import attention, folded, mask_map, named_after
from attention_outliers.papers.figures import PAPER_FIGURES, paper_figure
from attention_outliers.papers.inputs import scenes_of
from attention_outliers.papers.names import METHODS as PRINTED
from attention_outliers.papers.names import method_name
from attention_outliers.papers.sc_clip.figures import STEP_ROWS, adjusted, same_class_curves, steps
from diagnostics import load_backbone
from diagnostics.detectors.relative_norm import RelativeNorm
from diagnostics.images.label_maps import patch_labels_at
from diagnostics.purifiers.sfp_sum import SfpSum
from diagnostics.taps import Recorder
from figures.look import VERMILION
from figures.maps.one_image import as_rgb
from figures.maps.score_maps import outline
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
    figure = entry.draw(replace(entry, continues="").view(inputs))
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
    assert bars_of(ours) == {method_name(name): [pytest.approx(value)] for name, value in scored.items()}
    names = [label.get_text() for label in printed.get_xticklabels()]
    assert bars_of(printed)["CLIPtrase"][names.index("VOC20")] == 81.2  # its Table 1
    assert bars_of(printed)["CLIP"][names.index("ADE847")] == 0.79
    assert [text.get_text() for text in ours.figure.legends[0].get_texts()] == ["CLIP", "CLIPtrase"]


def test_streams_have_the_names_of_the_paper(inputs):
    figure = PAPER_FIGURES["clearclip/fig-4a"].draw(inputs)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["X_res", "X_attn", "X_sum"]
    assert "mean of 2 images" in figure.axes[0].get_xlabel()  # the paper speaks of averages


def test_norms_of_two_backbones_stand_side_by_side(inputs):
    other = load_backbone("tiny:class_token=false,size=96")  # without words, and so without scores
    figure = PAPER_FIGURES["clearclip/fig-2"].draw(replace(inputs, second=other))
    names = [axes.get_ylabel().split("\n", 1) for axes in figure.axes]
    assert [(what, spec.replace("\n", "")) for what, spec in names] == [
        ("Frobenius norm", inputs.backbone.spec),
        ("mIoU, per cent", inputs.backbone.spec),
        ("Frobenius norm", other.spec),
    ]
    residual = bars_of(figure.axes[0])["X_res"]
    assert residual == [pytest.approx(residual[0])] * 6  # what enters the block does not know the kind


def test_label_maps_of_what_the_last_block_adds_up_have_their_names(inputs):
    figure = PAPER_FIGURES["clearclip/fig-3-maps"].draw(inputs.only(0))
    assert [axes.get_label() for axes in figure.axes] == ["image", "truth", "X_sum", "X_res", "X_attn", "legend"]
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


def test_heat_maps_and_segmentations_are_of_words_that_the_image_shows(inputs):
    figure = PAPER_FIGURES["sc-clip/fig-9"].draw(inputs.only(0))
    there = {NAMES[number] for number in np.unique(inputs.labels[0])}
    heads = [axes.get_label().removeprefix("CLIP ") for axes in figure.axes if axes.get_label().startswith("CLIP ")]
    assert heads[0] == "image"
    assert there <= set(heads[1:]) or set(heads[1:]) <= there
    maps = {axes.get_label(): axes.images[0] for axes in figure.axes if axes.images}
    assert (maps[f"SC-CLIP {heads[1]}"].norm.vmin, maps[f"SC-CLIP {heads[1]}"].norm.vmax) == (0, 1)
    labels = inputs.label_maps("sc-clip")["sc-clip"]
    for word in heads[1:]:
        shown = np.asarray(maps[f"SC-CLIP, segmentation {word}"].get_array())
        assert ((shown != as_rgb(inputs.images[0])).any(-1) == (labels == NAMES.index(word))).mean() > 0.99


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


def labels_in(figure):
    return [axes.get_label() for axes in figure.axes]


def heads_of_methods(figure):
    """What stands over the label maps of a sheet, without the scores."""
    return [axes.get_label() for axes in figure.axes if axes.get_label() not in ("image", "truth")]


def test_sheets_have_the_methods_of_the_papers_in_their_order_under_their_printed_names(inputs):
    sheets = {
        "sfp/supp-fig-3": ["CLIP", "ClearCLIP", "SCLIP", "NACLIP", "SFP"],
        "sc-clip/fig-6": ["CLIP", "MaskCLIP", "SCLIP", "ClearCLIP", "SC-CLIP"],
        "sc-clip/fig-1-maps": ["CLIP", "SC-CLIP"],
        "clearclip/fig-7": ["CLIP", "MaskCLIP", "SCLIP", "ClearCLIP"],
    }
    for name, methods in sheets.items():
        assert heads_of_methods(PAPER_FIGURES[name].draw(inputs.only(0))) == methods


def test_every_method_has_a_printed_name_and_settings_stay_behind_it():
    from segment.methods import METHODS

    assert {name.removesuffix("-paper") for name in METHODS} <= set(PRINTED)
    assert method_name("sc-clip-paper:beta=0.3") == "SC-CLIP (as printed):beta=0.3"
    assert method_name("clip") == "CLIP"
    assert method_name("mine:x=1") == "mine:x=1"


@pytest.fixture(scope="module")
def many(inputs):
    return replace(scenes_of(6, inputs.backbone), text=inputs.text)


@pytest.mark.parametrize(("name", "first"), [("cliptrase/fig-9", 4), ("cliptrase/fig-10", 4)])
def test_more_images_are_the_next_ones_and_not_the_same(name, first, many):
    entry, earlier = PAPER_FIGURES[name], PAPER_FIGURES[f"cliptrase/{PAPER_FIGURES[name].continues}"]
    figures = [entry.draw(entry.view(many)) for entry in (earlier, entry)]
    shown = [{image for image in many.names if any(label.startswith(image) for label in labels_in(figure))}
             for figure in figures]  # fmt: skip
    assert shown == [set(many.names[:first]), set(many.names[first:])]


def test_a_figure_of_one_image_that_continues_begins_behind_those_drawn_before(many):
    entry = PAPER_FIGURES["sc-clip/fig-10"]
    assert [view.names for view in entry.views(many, 2)] == [many.names[2:3], many.names[3:4]]
    assert [view.names for view in PAPER_FIGURES["sc-clip/fig-6"].views(many, 2)] == [many.names[:1], many.names[1:2]]
    assert [view.names for view in entry.views(many, 4)] == [many.names[4:5], many.names[5:6]]
    with pytest.raises(ValueError, match="behind the first 6"):
        entry.views(many, 6)
    with pytest.raises(ValueError, match="fig-4; got 2 images"):
        PAPER_FIGURES["cliptrase/fig-9"].view(many.since(4))


def test_a_second_backbone_is_refused_where_it_would_not_be_seen(inputs, tmp_path):
    other = load_backbone("tiny:seed=1,size=96")
    with pytest.raises(ValueError, match="drawn from one backbone"):
        PAPER_FIGURES["sfp/supp-fig-2"].view(replace(inputs, second=other))
    arguments = ["figure", "sfp/supp-fig-2", "--scenes", "2", "-b", "tiny", "--second", "tiny:seed=1"]
    result = runner.invoke(app, [*arguments, "-o", str(tmp_path)])
    assert isinstance(result.exception, ValueError)
    assert "clearclip/fig-4a" in str(result.exception)
    assert not list(tmp_path.iterdir())


PAIRS = sorted(name for name, entry in PAPER_FIGURES.items() if entry.pair)


@pytest.mark.parametrize("name", PAIRS)
def test_a_second_backbone_is_seen_where_it_is_taken(name, inputs):
    """Its name stands in the figure, which it does not without it."""
    other = load_backbone("tiny:seed=3,size=96,class_token=false")
    views = [PAPER_FIGURES[name].view(replace(inputs, second=view)) for view in (None, other)]
    if name == "clearclip/fig-5":
        views[1] = replace(views[1], second=load_backbone("tiny:seed=3,size=96"))
    words = ["".join(map(str, all_words(PAPER_FIGURES[name].draw(view)))).replace("\n", "") for view in views]
    assert "seed=3" in words[1]
    assert "seed=3" not in words[0]


def all_words(figure):
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text)]


def test_figure_6_of_clearclip_has_the_methods_of_its_experiment_and_their_numbers(inputs):
    table = scaling_table(inputs)
    rows = experiments()["clearclip/figure-6"].rows
    assert table.size == len(rows) == 30
    scores = inputs.scored([row.method for row in rows])
    for row in rows:
        kind, _, alpha = row.name.partition(", α = ")
        assert table[kind][float(alpha)] == scores[row.method]
    # The FFN is on, so that q-k at 1 is CLIP itself.
    assert table["q-k"][1.0] == pytest.approx(inputs.scored(["clip"])["clip"], abs=0.3)


def test_figure_5_of_clearclip_scores_the_methods_of_its_experiment(inputs):
    architecture_table(inputs)
    scored = {method for _, method in inputs.known}
    assert {row.method for row in experiments()["clearclip/figure-5"].rows} <= scored


def test_steps_of_sc_clip_are_rows_of_its_ablation():
    methods = {row.name: row.method for row in experiments()["sc-clip/table-2"].rows}
    assert steps() == {words: methods[row] for words, row in STEP_ROWS.items()}
    assert next(iter(methods)) == STEP_ROWS["baseline"] == "baseline"
    assert list(methods)[-1] == list(STEP_ROWS.values())[-1]


def test_adjusted_attention_is_equation_6(inputs):
    """K-K attention and the similarity's softmax, each by a plain loop over patches of one head."""
    parts = adjusted(inputs)
    similar = parts.similar[0].double()
    block = inputs.backbone.blocks[-1]
    with torch.no_grad():
        keys = block.qkv(parts.patches).k[0].double()  # (H, N, d)
    unlike = int(similar.amin(dim=1).argmin())
    assert similar[unlike].min() < -0.1, "some patch is unlike another, which the gate leaves out"
    for patch in (0, 7, 20, unlike):
        rows = []
        for head in keys:
            products = torch.stack([head[patch] @ other for other in head]) / head.shape[-1] ** 0.5
            rows.append(products.exp() / products.exp().sum())
        kk = torch.stack(rows).mean(0)
        positive = [value.exp() if value >= 0 else torch.zeros(()).double() for value in similar[patch]]
        gated = torch.stack(positive) / sum(positive)
        torch.testing.assert_close(parts.kk[patch].double(), kk, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(parts.enhanced[patch].double(), kk + gated, atol=1e-5, rtol=1e-4)
    weights = torch.where(similar >= 0.4, similar, 0.0)
    mean = weights @ parts.patches[0].double() / weights.sum(1, keepdim=True)
    torch.testing.assert_close(parts.aggregated[0].double(), mean, atol=1e-4, rtol=1e-4)


def test_the_printed_self_adjusting_is_that_of_the_printed_method(inputs):
    from segment.methods import METHODS

    encoding = inputs.encoded("sc-clip-paper")[0]
    torch.testing.assert_close(encoding.extras["affinity"][0], adjusted(inputs).similar[0])
    assert int(encoding.extras["outliers"].sum()) == METHODS["sc-clip-paper"].encoder.count


def test_before_and_after_share_their_colors(inputs):
    figure = PAPER_FIGURES["sc-clip/fig-3"].draw(inputs.only(0))
    for head in ("mean of channels", "looks at"):
        ends = {}
        for axes in figure.axes:
            state, _, rest = axes.get_label().partition(" ")
            if head in rest:
                norm = axes.images[0].norm
                ends.setdefault(rest, {})[state] = (type(norm), norm.vmin, norm.vmax)
        assert ends
        assert all(pair["before"] == pair["after"] for pair in ends.values())
    symbols = {line.get_label(): line.get_marker() for axes in figure.axes for line in axes.lines}
    assert symbols == {"query patch": "*", "outlier": "^"}


def test_stars_stand_on_the_image_and_log_bars_say_so(inputs):
    for name in ("cliptrase/fig-2", "sfp/supp-fig-1"):
        figure = PAPER_FIGURES[name].draw(inputs.only(0))
        first = figure.axes[0]
        assert first.get_label().endswith("image")
        assert np.asarray(first.images[0].get_array()).ndim == 3
        assert first.lines[0].get_label() == "query patch"
        bars = sum(axes.get_label() == "color bar" for axes in figure.axes)
        logs = sum(
            type(axes.images[0].norm).__name__ == "LogNorm" for axes in figure.axes if "layer 2" in axes.get_label()
        )
        assert [text.get_text() for text in figure.texts].count("log") >= max(logs, 1)
        assert [text.get_text() for text in figure.texts].count("log") <= bars


def test_global_patches_are_boxed_in_red(inputs):
    planted = replace(inputs, text=None)
    figure = PAPER_FIGURES["cliptrase/fig-5"].draw(planted)
    prefix, contrast, masks = planted.layout.prefix, [], []
    for layer in (planted.layer(11), planted.layer(12)):
        received = attention(planted, layer)[prefix:, prefix:].mean(0)
        contrast.append(float(received.max() / received.mean()))
        masks.append((received > 5 * received.mean()).reshape(planted.grid).numpy())
    marked = masks[int(np.argmax(contrast))]
    assert contrast[0] != contrast[1]
    assert marked.any()
    boxes = [lines for lines in figure.axes[0].collections if lines.get_label() == "boxed"]
    assert len(boxes[0].get_segments()) == len(outline(marked))
    assert tuple(boxes[0].get_colors()[0]) == to_rgba(VERMILION)


def test_curves_are_of_the_second_backbone_and_of_the_method_itself(inputs):
    other = load_backbone("tiny:seed=3,size=96")
    figure = PAPER_FIGURES["sc-clip/fig-4-roc"].draw(replace(inputs, second=other))
    names = [line.get_label() for line in figure.axes[0].lines]
    assert sum("SC-CLIP" in name for name in names) == 1
    (name,) = [name for name in names if "seed=3" in name]
    assert "last layer (12)" in name
    (curve,) = same_class_curves(inputs.with_backbone(other), {}, ["last"]).values()
    drawn = next(line for line in figure.axes[0].lines if line.get_label() == name)
    np.testing.assert_allclose(drawn.get_ydata(), curve[1])


def test_the_command_prints_what_is_seen_beside_what_the_paper_says(tmp_path):
    arguments = ["figure", "clearclip/fig-4b", "--scenes", "2", "-b", "tiny:size=96", "--templates", "plain"]
    result = runner.invoke(app, [*arguments, "-o", str(tmp_path)])
    assert result.exit_code == 0, (result.output, result.exception)
    inputs = scenes_of(2, load_backbone("tiny:size=96"))
    first, last = (
        float(inputs.probe("peak")["peak"].mean("image").sel(stream="block_in").isel(layer=at)) for at in (0, -1)
    )
    assert "the paper: X_res and X_sum of CLIP grow to about 90 times" in result.output
    assert f"largest value of X_res, first layer: {first:.4g}" in result.output
    met = "as claimed" if last / first >= 10 else "not as claimed"
    assert f"the last over the first: {last / first:.4g}; the paper: about 90 (CLIP) ({met})" in result.output


@pytest.mark.parametrize(
    "depth, layers", [(12, [1, 5, 8, 9, 12]), (24, [2, 10, 16, 18, 24]), (6, [1, 2, 4, 6]), (40, [3, 17, 27, 30, 40])]
)
def test_layers_of_a_paper_of_twelve_blocks_move_with_the_depth(depth, layers, inputs):
    assert replace(inputs, backbone=load_backbone(f"tiny:depth={depth}")).layers(1, 5, 8, 9, 12) == layers


def test_curves_of_sc_clip_figure_8_pool_the_pairs_of_all_images_but_not_ignored_ones(inputs):
    """scikit-learn's AUC of all pairs of both images in one list, from a forward of each."""
    first, second = (labels.copy() for labels in inputs.labels)
    first[:70], second[:, 90:] = 15, 15
    changed = replace(inputs, labels=(first, second), ignore=15)
    ((_, (fpr, tpr)),) = same_class_curves(changed, {}, ["last"]).items()
    scores, truths = [], []
    for number, labels in enumerate((first, second)):
        patches = inputs.backbone.trunk(inputs.tensor(number))[0, 1:].double()
        known = patch_labels_at(labels, (96, 96), inputs.backbone.patch_size, ignore=())[0].numpy()
        for i, j in itertools.combinations(np.flatnonzero(known != 15), 2):
            scores.append(torch.cosine_similarity(patches[i], patches[j], dim=0).item())
            truths.append(known[i] == known[j])
    assert len(scores) < 2 * 36 * 35 / 2
    area = float((np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2).sum())
    assert area == pytest.approx(roc_auc_score(truths, scores), abs=2e-4)


def test_scores_of_a_figure_leave_out_pixels_of_the_ignored_label(inputs):
    """mIoU by hand from the label maps of both images, the largest class ignored."""
    ignored = int(np.bincount(inputs.labels[0].ravel()).argmax())
    changed = replace(inputs, ignore=ignored)
    (score,) = changed.scored(["clearclip"]).values()
    maps = [inputs.label_maps("clearclip", number=number)["clearclip"] for number in range(2)]
    truth, answers = (np.concatenate([part.ravel() for part in parts]) for parts in (inputs.labels, maps))
    truth, answers = truth[truth != ignored], answers[truth != ignored]
    shares = []
    for number in range(len(NAMES)):
        union = ((truth == number) | (answers == number)).sum()
        if union:
            shares.append(((truth == number) & (answers == number)).sum() / union)
    assert score == pytest.approx(100 * np.mean(shares))
    assert changed.scored(["clearclip"]) != replace(inputs, ignore=255).scored(["clearclip"])


def test_global_patches_are_those_of_the_layer_in_which_one_stands_out_more(monkeypatch, inputs):
    received = {11: torch.tensor([1.0, 2.0, 1.0, 6.0]), 12: torch.tensor([9.0, 0.1, 0.1, 0.1])}
    monkeypatch.setattr(figure_maps, "received_attention", lambda _, layer, number: received[layer] * (number + 1))
    assert figure_maps.striped_layer(inputs, 2) == 12
    received[12] = torch.tensor([3.0, 3.0, 3.0, 3.1])
    assert figure_maps.striped_layer(inputs, 2) == 11


def test_outlined_are_the_patches_that_som_marks_on_the_way(inputs):
    view = replace(inputs, text=None).only(0)
    figure = PAPER_FIGURES["sfp/main-fig-3"].draw(view)
    layers = view.layers(*range(2, 10))
    tokens = view.backbone.trunk(view.tensor(), stop=0)
    marked = torch.zeros(view.layout.count, dtype=torch.bool)
    with torch.no_grad():
        for layer in range(1, max(layers) + 1):
            recorder = Recorder("attention", "block_out", layers=[layer])
            tokens = view.backbone.run(tokens, start=layer, stop=layer, layout=view.layout, tap=recorder)
            if layer in layers:
                weights = recorder["attention"].mean(dim=1)
                itself = view.layout.patches(weights.diagonal(dim1=1, dim2=2))
                of_class = view.layout.patches(weights[:, view.layout.class_index])
                mask = itself < of_class
                marked |= mask[0]
                tokens = SfpSum().purify_tokens(tokens, mask, view.layout)
    assert marked.any()
    drawn = next(axes for axes in figure.axes if axes.get_label() == "norm image")
    lines = [item for item in drawn.collections if item.get_label() == "marked"]
    assert len(lines[0].get_segments()) == len(outline(folded(view.layout, marked) > 0.5))


@pytest.mark.parametrize("name", ["sfp/supp-fig-3", "sc-clip/fig-6", "clearclip/fig-3-maps"])
def test_no_place_of_a_sheet_of_methods_is_empty(name, inputs):
    first = inputs.only(0)
    few = text_features(inputs.backbone, list(NAMES[:5]), "plain", progress=False)
    figure = PAPER_FIGURES[name].draw(replace(first, text=few, labels=(np.minimum(first.labels[0], 4),)))
    figure.canvas.draw()
    labels = [axes.get_label() for axes in figure.axes]
    assert len(labels) in (6, 8)
    assert labels[-1] == "legend"
    assert not figure.legends
    legend = figure.axes[-1].get_legend().get_window_extent()
    place = figure.axes[-1].get_window_extent()
    assert place.x0 - 1 <= legend.x0 <= legend.x1 <= place.x1 + 1
    assert place.y0 - 1 <= legend.y0 <= legend.y1 <= place.y1 + 1


def test_an_anomaly_token_says_who_marks_it_and_attention_that_all_share_is_boxed(inputs):
    scatter = PAPER_FIGURES["sc-clip/fig-2b"].draw(inputs.only(0)).axes[0]
    labels = [text.get_text() for text in scatter.get_legend().get_texts()]
    assert any("released LOF" in label for label in labels)
    figure = PAPER_FIGURES["sc-clip/fig-2a"].draw(inputs.only(0))
    prefix = inputs.layout.prefix
    received = attention(inputs, inputs.backbone.depth)[prefix:, prefix:].mean(0)
    expected = len(outline((received > 5 * received.mean()).reshape(inputs.grid).numpy()))
    maps = [axes for axes in figure.axes if axes.get_label().startswith("attention")]
    assert expected
    for axes in maps:
        (boxes,) = (item for item in axes.collections if item.get_label() == "boxed")
        assert len(boxes.get_segments()) == expected
