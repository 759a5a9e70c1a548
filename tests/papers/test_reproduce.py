"""Tables end to end on drawn scenes: what is missing runs, what is there does not, and ours stands beside theirs."""

from __future__ import annotations

import errno
import math
from dataclasses import replace

import pytest

import attention_outliers.papers.needs as needs_module
import attention_outliers.papers.reproduce as module
from attention_outliers.papers import experiments
from attention_outliers.papers.clearclip import figures as clearclip
from attention_outliers.papers.clearclip.figures import KINDS, SETTINGS, architecture_table, scaling_table
from attention_outliers.papers.cost import cost_of
from attention_outliers.papers.inputs import scenes_of, with_words
from attention_outliers.papers.needs import needs
from attention_outliers.papers.plan import Group, Selection, find_root
from attention_outliers.papers.reproduce import ReproduceOptions, Reproduction, reproduce
from attention_outliers.papers.results_table import rendered
from attention_outliers.papers.sc_clip import figures as sc_clip
from attention_outliers.papers.sfp import figures as sfp
from attention_outliers.papers.side_by_side import side_by_side
from attention_outliers.papers.trial import try_methods, windows_of
from diagnostics.backbones import Backbone
from diagnostics.studies.store import DiskFull
from segment.datasets import DATASETS, DatasetError
from segment.evaluation.engines.local import Local
from segment.evaluation.evaluate import evaluate

HOW = ReproduceOptions(device="cpu", engine=Local(workers=1), seconds=0.0)
OFFLINE = Selection(backbone="tiny", offline=True, limit=3)
TABLE = experiments()["clearclip/table-1"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def reproduction(kept) -> Reproduction:
    return reproduce(TABLE, OFFLINE, out=kept, how=HOW)


def refuse(*arguments, **settings):
    raise AssertionError("nothing should be run")


def test_every_cell_of_a_table_is_measured_on_drawn_scenes(reproduction):
    assert set(reproduction.ours) == {
        (row.name, column.name) for row in TABLE.rows for column in TABLE.columns if column.dataset
    }
    assert all(0 <= value <= 100 for value in reproduction.ours.values())
    assert reproduction.partly == set(reproduction.ours)  # 3 scenes of 500
    assert not reproduction.reasons


def test_numbers_are_those_of_an_evaluation(reproduction, tmp_path):
    result = evaluate(
        "tiny", "clearclip", "shapes", "clearclip", out=tmp_path, limit=3, engine=Local(workers=1), device="cpu"
    )
    assert reproduction.ours["neither", "VOC20"] == pytest.approx(100 * result.cells[0].miou)


def test_a_table_that_is_there_is_not_run_again(reproduction, kept, monkeypatch):
    monkeypatch.setattr(module, "evaluate", refuse)
    monkeypatch.setattr(module, "try_methods", lambda backbone, methods, group: try_methods(backbone, [], group))
    assert reproduce(TABLE, OFFLINE, out=kept, how=HOW).ours == reproduction.ours


def test_another_table_runs_only_what_the_first_did_not(reproduction, kept, monkeypatch):
    asked = []

    def watched(backbone, methods, *arguments, **settings):
        asked.extend(methods)
        return evaluate(backbone, methods, *arguments, **settings)

    monkeypatch.setattr(module, "evaluate", watched)
    other = reproduce(experiments()["clearclip/table-3"], OFFLINE, out=kept, how=HOW)
    assert "clearclip" not in asked
    assert {"clip", "maskclip", "sclip", "gem"} <= set(asked)
    assert other.ours["ClearCLIP", "VOC21"] == reproduction.ours["neither", "VOC20"]


@pytest.mark.parametrize("change", ["limit", "weights"])
def test_numbers_of_other_images_or_weights_are_not_taken(reproduction, kept, monkeypatch, change):
    choice = Selection(
        backbone="tiny" if change == "limit" else "tiny:seed=1", offline=True, limit=2 if change == "limit" else 3
    )
    asked = []

    def watched(backbone, methods, *arguments, **settings):
        asked.extend(methods)
        raise ValueError("stopped here")

    monkeypatch.setattr(module, "evaluate", watched)
    again = reproduce(TABLE, choice, out=kept, how=HOW)
    assert set(asked) == {row.method for row in TABLE.rows}
    assert not again.ours
    assert set(again.reasons.values()) == {"stopped here"}


def test_a_method_that_can_not_run_is_reported_and_the_others_go_on(tmp_path, monkeypatch):
    def grudging(backbone, methods, group):
        trial = try_methods(backbone, methods, group)
        trial.methods.pop("clearclip", None)
        return trial._replace(refused={"clearclip": "it will not"})

    monkeypatch.setattr(module, "try_methods", grudging)
    reproduced = reproduce(TABLE, OFFLINE, out=tmp_path, how=HOW)
    assert {row for row, _ in reproduced.ours} == {"with RC and FFN", "RC, no FFN", "FFN, no RC"}
    assert {row: why for (row, _), why in reproduced.reasons.items()} == {"neither": "it will not"}
    assert "not run, neither (VOC20, Context59, Stuff, Cityscapes, ADE20k): it will not" in rendered(
        side_by_side(reproduced)
    )


@pytest.mark.parametrize(
    "error, reason",
    [
        (ValueError("clearclip stops in its third image"), "clearclip stops in its third image"),
        (OSError("no connection"), "OSError: no connection"),
        (RuntimeError("CUDA error: out of memory"), "RuntimeError: CUDA error: out of memory"),
        (RuntimeError("a worker failed:\n  File \"x.py\"\nKeyError: 'x'\n"), "RuntimeError: KeyError: 'x'"),
        (MemoryError(), "MemoryError: no message"),
        (KeyError("block_out"), "KeyError: 'block_out'"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_a_method_that_stops_a_run_does_not_stop_its_neighbors(tmp_path, monkeypatch, error, reason):
    def stopped(backbone, methods, *arguments, **settings):
        if "clearclip" in methods:
            raise error
        return evaluate(backbone, methods, *arguments, **settings)

    monkeypatch.setattr(module, "evaluate", stopped)
    reproduced = reproduce(TABLE, OFFLINE, out=tmp_path, how=HOW)
    assert {row for row, _ in reproduced.ours} == {"with RC and FFN", "RC, no FFN", "FFN, no RC"}
    assert {row: why for (row, _), why in reproduced.reasons.items()} == {"neither": reason}


@pytest.mark.parametrize("place", ["try_methods", "_loaded", "find_root", "cost_of", "class_token_accuracy"])
def test_an_error_of_any_kind_is_named_in_the_rows_it_stops(tmp_path, monkeypatch, place):
    def broken(*arguments, **settings):
        raise KeyError("a hole")

    key = {"cost_of": "sc-clip/table-9", "class_token_accuracy": "sfp/classification"}.get(place, TABLE.key)
    if place == "try_methods":
        monkeypatch.setattr("attention_outliers.papers.trial.encode_many", broken)
    else:
        monkeypatch.setattr(module, {"_loaded": "load_backbone"}.get(place, place), broken)
    reproduced = reproduce(experiments()[key], OFFLINE, out=tmp_path, how=HOW)
    assert not reproduced.ours
    assert set(reproduced.reasons.values()) == {"KeyError: 'a hole'"}


def test_a_full_disk_stops_all_rows(tmp_path, monkeypatch):
    def full(*arguments, **settings):
        raise DiskFull(errno.ENOSPC, "no room")

    monkeypatch.setattr(module, "evaluate", full)
    with pytest.raises(DiskFull):
        reproduce(TABLE, OFFLINE, out=tmp_path, how=HOW)


def test_a_row_that_a_protocol_gives_a_layer_too_many_leaves_its_neighbors_running(voc, tmp_path):
    # `sc-clip` runs in the table's first rows; sc-clip-l14 gives the same spec fuse_to=19, which 12 blocks don't have.
    table = experiments()["sc-clip/table-1"].only(
        ["ViT-B/16 SC-CLIP", "ViT-L/14 CLIP", "ViT-L/14 MaskCLIP", "ViT-L/14 SC-CLIP"]
    )
    choice = Selection(backbone="tiny", data_sets=("voc21",), limit=1)
    reproduced = reproduce(table, choice, out=tmp_path / "out", roots={"": voc}, how=HOW)
    assert {row for row, _ in reproduced.ours} == {"ViT-B/16 SC-CLIP", "ViT-L/14 CLIP", "ViT-L/14 MaskCLIP"}
    (why,) = reproduced.reasons.values()
    assert "`fuse_to=19` is no layer of 12 blocks" in why


def test_data_and_weights_that_are_not_there_are_reported(tmp_path):
    reproduced = reproduce(TABLE, Selection(backbone="tiny"), out=tmp_path, roots={"": tmp_path}, how=HOW)
    assert not reproduced.ours
    assert all("holds no `" in why and "FOLDER" in why for why in reproduced.reasons.values())
    absent = reproduce(TABLE, Selection(backbone="openai:nowhere.pt", offline=True), out=tmp_path, how=HOW)
    assert not absent.ours
    assert all("nowhere.pt" in why for why in absent.reasons.values())


def test_trying_a_method_tells_why_it_refuses():
    backbone = module.load_backbone("tiny")
    trial = try_methods(backbone, ["clip", "sc-clip:pre_layer=40"], Group("tiny", "shapes", "sfp", ()))
    assert list(trial.methods) == ["clip"]
    assert "`pre_layer=40` is no layer of 12 blocks" in trial.refused["sc-clip:pre_layer=40"]


# Side by side


def hand_made(**settings) -> Reproduction:
    reproduced = Reproduction(experiment=experiments()["sfp/modules"], choice=Selection(**settings))
    reproduced.ours.update({("+ HAI", "VOC21"): 62.0, ("+ HAI", "ADE"): 21.0, ("+ SAE", "VOC21"): 62.5})
    reproduced.partly.add(("+ HAI", "ADE"))
    return reproduced


def test_ours_stands_beside_theirs_with_the_difference():
    sheet = side_by_side(hand_made())
    assert sheet.header == (
        "method", "VOC21", "printed", "difference", "ADE", "printed", "difference", "Avg", "printed", "difference"
    )  # fmt: skip
    rows = {row[0]: row[1:] for row in sheet.rows}
    assert rows["+ HAI"] == ("62.00", "63.9", "-1.90", "21.00*", "20.8", "+0.20", "41.50*", "42.4", "-0.90")
    assert rows["+ SAE"] == ("62.50", "62.3", "+0.20", "–", "19.5", "–", "–", "40.9", "–")
    assert rows["+ SOM"][1] == "60.1?"
    assert "printed: SFP, ICCV 2025, Table 2" in sheet.notes
    assert "? + SOM (VOC21): the supplement's Table 1 gives the same three numbers to q-k" in sheet.notes


def test_only_the_columns_that_were_asked_for_are_shown():
    assert side_by_side(hand_made(data_sets=("ade150",))).header == ("method", "ADE", "printed", "difference")


def test_drawn_scenes_have_no_difference_to_a_paper():
    sheet = side_by_side(hand_made(offline=True))
    assert "difference" not in sheet.header
    assert any("drawn scenes" in note for note in sheet.notes)


def test_other_weights_than_the_papers_have_no_difference_to_it():
    sheet = side_by_side(hand_made(backbone="tiny"))
    assert sheet.header == ("method", "VOC21", "printed", "ADE", "printed", "Avg", "printed")
    assert sheet.title.endswith(
        "; ours with tiny, not the weights of the paper (open_clip:ViT-B-16/openai): no difference to it"
    )
    assert {row[0]: row[1:3] for row in sheet.rows}["+ HAI"] == ("62.00", "63.9")


def test_another_second_backbone_takes_the_difference_of_the_rows_that_have_one():
    table = experiments()["sc-clip/table-4"].only(["last: DINO", "last: 4"])
    reproduced = Reproduction(experiment=table, choice=Selection(second="timm:x@y", data_sets=("voc21",)))
    reproduced.ours.update({("last: DINO", "V21"): 18.0, ("last: 4", "V21"): 11.0})
    sheet = side_by_side(reproduced)
    differences = {row[0]: row[-1] for row in sheet.rows}
    assert differences["last: DINO"] == "–"
    assert differences["last: 4"].startswith("-")
    assert "second backbone timm:x@y: no difference" in sheet.title
    without = replace(reproduced, experiment=table.only(["last: 4"]))
    assert "second" not in side_by_side(without).title


def test_rows_of_the_papers_own_weights_keep_their_difference():
    table = experiments()["sc-clip/table-1"].only(["ViT-B/16 CLIP", "ViT-L/14 CLIP"])
    # The same weights by another loader.
    reproduced = Reproduction(experiment=table, choice=Selection(backbone="openai:ViT-B-16.pt", data_sets=("voc21",)))
    reproduced.ours.update({("ViT-B/16 CLIP", "VOC21"): 18.0, ("ViT-L/14 CLIP", "VOC21"): 11.0})
    sheet = side_by_side(reproduced)
    assert sheet.header == ("method", "VOC21", "printed", "difference")
    differences = {row[0]: row[-1] for row in sheet.rows}
    assert differences["ViT-L/14 CLIP"] == "–"
    assert differences["ViT-B/16 CLIP"] == f"{18.0 - table.rows[0].printed['VOC21']:+.2f}"
    assert "not the weights of the paper (open_clip:ViT-L-14/openai)" in sheet.title
    reproduced = replace(reproduced, choice=Selection(data_sets=("voc21",)))
    assert side_by_side(reproduced).title == "sc-clip/table-1: Eight data sets, two backbones"


def test_columns_that_nobody_measures_show_what_is_printed():
    reproduction = Reproduction(experiment=experiments()["cliptrase/table-2"], choice=Selection())
    assert side_by_side(reproduction).header[-1] == "FLOPs x, printed"
    assert side_by_side(reproduction).rows[0][-1] == "1.0"


def test_a_sheet_has_three_forms():
    sheet = side_by_side(hand_made())
    assert "| + HAI | 62.00 | 63.9 | -1.90 |" in rendered(sheet, "markdown")
    assert r"+ HAI & 62.00 & 63.9 & -1.90" in rendered(sheet, "latex")


# The same experiment as a figure


def scaled(inputs):
    drawn = scaling_table(inputs)
    return {f"{kind}, α = {alpha:g}": drawn[kind][alpha] for kind in drawn for alpha in drawn.index}


def by_architecture(inputs):
    drawn = architecture_table(inputs)
    names = {
        f"clearclip:residual={residual},ffn={ffn},kernel={kind}".lower(): (words, name)
        for name, (residual, ffn) in SETTINGS.items()
        for kind, words in KINDS.items()
    }
    rows = experiments()["clearclip/figure-5"].rows
    return {row.name: drawn.loc[names[row.method]] for row in rows if row.method in names}


def by_method(*methods):
    return lambda key, inputs: {
        row.name: inputs.scored(list(methods))[row.method] for row in experiments()[key].rows if row.method in methods
    }


DRAWN = {
    "clearclip/figure-6": lambda _, inputs: scaled(inputs),
    "clearclip/figure-5": lambda _, inputs: by_architecture(inputs),
    "clearclip/table-2": by_method(*clearclip.SHEET),
    "cliptrase/table-1": by_method("clip", "cliptrase"),
    "sc-clip/table-1": by_method(*sc_clip.SHEET_ALONE),
    "sc-clip/table-2": by_method(*sc_clip.steps().values()),
    "sfp/table-1": by_method(*sfp.SHEET),
}


@pytest.fixture(scope="module")
def figure_inputs():
    return with_words(scenes_of(3, module.load_backbone("pocket")), None, "openai-80", drawn=True)


@pytest.mark.parametrize("key", DRAWN)
def test_a_figure_and_its_table_agree_to_the_last_digit(key, figure_inputs, tmp_path):
    """Every experiment that stands both in a figure and in a table."""
    assert figure_inputs.scored_as == "windows=whole, size=short:112"
    # CLIPtrase's protocol adds a little to each union; figures count as the others do.
    settings = (("metric", "mmseg"), ("size", "short:112"), ("windows", "whole"))
    drawn = DRAWN[key](key, figure_inputs)
    assert len(drawn) >= (2 if key == "cliptrase/table-1" else 3)
    table = experiments()[key].only(list(drawn))
    column = next(column.name for column in table.columns if column.dataset)
    choice = Selection(offline=True, limit=3, settings=settings, data_sets=(table.column(column).dataset,))
    reproduced = reproduce(table, choice, out=tmp_path, how=HOW)
    assert {row: reproduced.ours[row, column] for row in drawn} == drawn
    assert len(set(drawn.values())) > 1  # they differ, so that rows can't be mixed up


def test_changed_settings_have_no_difference_to_a_paper():
    sheet = side_by_side(hand_made(settings=(("windows", "whole"),)))
    assert "difference" not in sheet.header
    assert sheet.title.endswith("; ours with windows=whole, not the paper's settings: no difference to it")


# Cost


def test_multiply_adds_and_parameters_are_those_of_a_count_by_hand(tiny: Backbone):
    cost = cost_of(tiny, "clip", Group("tiny", "coco-object", "sc-clip", ()), seconds=0.0)
    width, tokens, patches = 48, 1 + 14 * 14, 14 * 14
    block = 12 * tokens * width**2 + 2 * tokens**2 * width  # q, k, v, projection, FFN of 4; logits and mix
    by_hand = 12 * block + patches * 3 * 16**2 * width + tokens * width * 40
    assert cost.gflops * 1e9 == pytest.approx(by_hand, rel=0.001)
    assert cost.params * 1e6 == pytest.approx(sum(weights.numel() for weights in tiny.model.parameters()))
    assert cost.fps > 0


def test_a_last_block_without_ffn_costs_less(tiny: Backbone):
    group = Group("tiny", "coco-object", "sc-clip", ())
    costs = {method: cost_of(tiny, method, group, seconds=0.0).gflops for method in ("clip", "naclip", "clip-surgery")}
    assert costs["naclip"] < costs["clip"] < costs["clip-surgery"]


def test_a_cost_that_is_there_is_not_measured_again(tmp_path, monkeypatch):
    whole = experiments()["sc-clip/table-9"]
    table = replace(whole, rows=whole.rows[-2:])
    first = reproduce(table, OFFLINE, out=tmp_path, how=HOW)
    assert {row for row, _ in first.ours} == {row.name for row in table.rows}
    monkeypatch.setattr(module, "cost_of", refuse)
    assert reproduce(table, OFFLINE, out=tmp_path, how=HOW).ours == first.ours


# Needs


@pytest.fixture
def voc(tmp_path):
    """Two images of VOC, 500 x 375 and 300 x 500, under data/VOCdevkit/VOC2012."""
    import numpy as np
    from PIL import Image

    base = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    for name, (width, height) in {"a": (500, 375), "b": (300, 500)}.items():
        for place, array in (
            (f"JPEGImages/{name}.jpg", np.zeros((height, width, 3), np.uint8)),
            (f"SegmentationClass/{name}.png", np.ones((height, width), np.uint8)),
        ):
            (base / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(base / place)
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\n")
    return tmp_path / "data"


def test_a_data_set_is_found_below_the_root(voc, tmp_path):
    assert find_root("voc21", {"": voc}) == voc
    assert find_root("voc21", {"": tmp_path}) == voc
    assert find_root("voc21", {"": tmp_path, "voc21": voc / "VOCdevkit"}) == voc / "VOCdevkit"
    assert find_root("shapes", {}) is None
    with pytest.raises(DatasetError, match=r"holds no `cityscapes`.*cityscapes=FOLDER"):
        find_root("cityscapes", {"": tmp_path})
    with pytest.raises(ValueError, match="voc20=FOLDER"):
        find_root("voc20", {})


def test_needs_count_windows_by_the_protocol_and_name_what_is_missing(voc):
    listed = needs(experiments()["sfp/modules"], Selection(backbone="tiny"), roots={"": voc}, how=HOW)
    there, absent = listed
    # 448 x 336 has 2 x 3 windows of 224 every 112; 336 x 560 has 4 x 2.
    assert (there.images, there.windows) == (2, 6 + 8)
    assert "2 images instead of the 1449" in there.data
    assert there.weights == "at hand"
    assert not there.ready  # not all of it is there
    assert there.seconds is not None
    assert there.seconds > 0
    assert absent.data.startswith("MISSING")
    assert absent.images == 2000
    # SFP's ADE20K is at 384: 683 x 512 becomes 512 x 384, 3 x 4 windows.
    assert absent.windows == 2000 * 12
    assert math.isclose(absent.seconds / absent.windows, there.seconds / there.windows)


def test_what_is_assumed_of_a_data_set_that_is_not_there_is_what_it_declares(monkeypatch):
    declared = replace(DATASETS["cityscapes"].declared, images=7, usual=(1120, 560))
    monkeypatch.setattr(DATASETS["cityscapes"], "declared", declared)
    (need,) = needs(experiments()["sfp/table-1"], Selection(backbone="tiny", data_sets=("cityscapes",)), how=HOW)[:1]
    # SFP's Cityscapes is at 560: 9 x 4 windows of 224 every 112.
    assert (need.images, need.windows) == (7, 7 * 36)
    assert "About 7 images of 1120x560 are assumed" in need.data


def test_offline_everything_is_ready():
    (need,) = needs(TABLE, OFFLINE, how=HOW)
    assert need.ready
    assert (need.images, need.data) == (3, "drawn")
    assert not need.notes


def test_second_models_are_named_and_not_fetched(monkeypatch):
    monkeypatch.setattr(needs_module, "HF_HUB_CACHE", "nowhere")
    table = experiments()["cliptrase/table-5"]
    listed = needs(table, Selection(backbone="tiny", data_sets=("voc20",)), how=HOW)
    (method,) = listed[0].notes
    assert method.startswith("cliptrase:masks=affinity")
    assert listed[0].notes[method].startswith("needs timm:vit_base_patch14_dinov2.lvd142m, not in the cache")
    assert listed[0].seconds is not None  # of the other method


def test_classes_of_whole_images_and_costs_have_needs_too():
    listed = needs(experiments()["sfp/classification"], Selection(backbone="tiny"), how=HOW)
    assert [need.images for need in listed] == [10000, 6149, 3669]
    assert all(need.data.startswith("MISSING") and need.windows == 4 * need.images for need in listed)
    (cost,) = needs(experiments()["sc-clip/table-9"], Selection(backbone="tiny"), how=HOW)
    assert cost.ready


def test_a_center_crop_is_one_window():
    protocol = Group("tiny", "voc20", "cliptrase", ()).protocol_value()
    assert windows_of(protocol, (224, 224)).count == 1
    assert windows_of(protocol, (224, 224)).window == (336, 336)
