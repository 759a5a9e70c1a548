"""The grids hold what the papers hold: so many rows and numbers, averages that agree, and specs that can be built."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attention_outliers.papers import experiments, experiments_named, published
from attention_outliers.papers.plan import Selection, groups
from attention_outliers.papers.whole_images import purification_settings
from diagnostics.registry import UnknownName, parse_spec
from segment.datasets import DATASETS
from segment.methods import METHODS

# Table -> rows, and numbers that are printed in it (figures: those of the text and of other tables).
PRINTED = {
    "sfp/table-1": (18, 131),
    "sfp/modules": (4, 12),
    "sfp/start-layer": (5, 15),
    "sfp/backbones": (10, 20),
    "sfp/attention": (7, 21),
    "sfp/pamr": (3, 6),
    "sfp/classification": (4, 12),
    "sfp/printed-or-released": (13, 18),
    "cliptrase/table-1": (11, 74),
    "cliptrase/table-2": (14, 74),
    "cliptrase/table-3": (3, 30),
    "cliptrase/table-4": (7, 35),
    "cliptrase/table-5": (2, 10),
    "cliptrase/table-6": (3, 120),
    "cliptrase/table-7": (3, 120),
    "cliptrase/table-8": (5, 10),
    "sc-clip/table-1": (23, 207),
    "sc-clip/table-2": (5, 30),
    "sc-clip/table-3": (6, 36),
    "sc-clip/table-4": (13, 65),
    "sc-clip/table-5": (11, 77),
    "sc-clip/table-6": (6, 36),
    "sc-clip/table-7": (7, 35),
    "sc-clip/table-8": (4, 24),
    "sc-clip/table-9": (7, 28),
    "clearclip/table-1": (4, 24),
    "clearclip/table-2": (14, 77),
    "clearclip/table-3": (15, 55),
    "clearclip/figure-5": (60, 37),
    "clearclip/figure-6": (30, 12),
    "recent/clip-only": (17, 127),
    "recent/clip-only-l14": (10, 72),
}
every = pytest.mark.parametrize("experiment", experiments().values(), ids=list(experiments()))


def cell(key: str, row: str, column: str) -> float:
    return next(entry for entry in experiments()[key].rows if entry.name == row).printed[column]


def test_there_is_a_grid_for_every_table():
    assert list(experiments()) == list(PRINTED)


@every
def test_a_grid_has_as_many_rows_and_printed_numbers_as_its_table(experiment):
    printed = sum(place.printed is not None for place in experiment.places())
    assert (len(experiment.rows), printed) == PRINTED[experiment.key]
    names = [row.name for row in experiment.rows]
    assert len(set(names)) == len(names)


@every
def test_printed_averages_are_those_of_the_cells_but_where_the_grid_says_otherwise(experiment):
    # Cells and average are both rounded, each by half of its last digit.
    last = 0.01 if experiment.key.startswith("cliptrase/") else 0.1
    for row in experiment.rows:
        for column in experiment.columns:
            average = experiment.average(column, row.printed)
            if average is None or column.name not in row.printed:
                continue
            agrees = abs(average - row.printed[column.name]) <= last + 1e-6
            assert agrees != (
                (row.name, column.name) in experiment.doubts and "mean" in _doubt(experiment, row, column)
            )


def _doubt(experiment, row, column) -> str:
    return experiment.doubts[row.name, column.name]


def test_the_averages_that_do_not_agree_are_the_two_known_ones():
    off = [
        (key, *where)
        for key, table in experiments().items()
        for where, why in table.doubts.items()
        if "the mean of the row" in why
    ]
    assert off == [("cliptrase/table-3", "CLIP", "Avg."), ("cliptrase/table-3", "SCR+PC+D", "Avg.")]


@every
def test_every_spec_can_be_built(experiment):
    for row in experiment.rows:
        if row.method and experiment.kind == "classify":
            purification_settings(row.method, depth=12)
        elif row.method:
            METHODS.build(row.method)


@every
def test_every_cell_that_runs_has_a_data_set_and_a_protocol(experiment):
    left_out = groups(experiment, Selection())[1]
    if experiment.key == "sfp/table-1":  # the release of CLIPtrase has no Cityscapes any more
        assert list(left_out) == [("CLIPtrase", "City")]
    elif experiment.key == "recent/clip-only":  # ITACLIP has settings for five sets
        assert {row for row, _ in left_out} == {"ITACLIP, PAMR, views, texts"}
        assert {column for _, column in left_out} == {"VOC20", "C59", "ADE"}
    else:
        assert not left_out
    for column in experiment.columns:
        known = {"": "", "cifar100": "", "flowers102": "", "pets": "", **DATASETS}
        assert parse_spec(column.dataset)[0] in known
        assert set(column.mean_of) <= {other.name for other in experiment.columns}
    for row, column in experiment.doubts:
        assert row in {entry.name for entry in experiment.rows}
        assert column in {entry.name for entry in experiment.columns}


@pytest.mark.parametrize(
    ("key", "row", "column", "value"),
    [
        ("sfp/table-1", "SFP", "VOC21", 63.9),
        ("sfp/modules", "+ SAE", "ADE", 19.5),
        ("sfp/pamr", "SCLIP", "VOC20 with PAMR", 83.1),
        ("sfp/classification", "SFP", "Pets top-5", 91.6),
        ("cliptrase/table-2", "layer 11", "VOC20", 40.83),
        ("cliptrase/table-6", "CLIPtrase", "ADEfull fwIoU", 18.99),
        ("cliptrase/table-7", "CLIPtrase", "PC459 mIoU", 10.11),
        ("cliptrase/table-7", "SCLIP", "VOC20 mIoU", 79.12),
        ("sc-clip/table-1", "ViT-L/14 GEM", "ADE", 13.2),
        ("sc-clip/table-4", "both: (9, 4)", "V21", 62.0),
        ("sc-clip/table-5", "direct sum 4-10", "C60", 3.5),
        ("sc-clip/table-9", "ProxyCLIP", "Params (M)", 235.4),
        ("clearclip/table-2", "SCLIP*", "VOC20", 78.2),
        ("clearclip/figure-5", "CLIP-B/16, no RC, no FFN, q-k", "Avg.", 27.6),
        ("clearclip/figure-6", "q-q, α = 1", "Avg.", 27.3),
    ],
)
def test_numbers_stand_where_the_papers_have_them(key, row, column, value):
    assert cell(key, row, column) == value


@pytest.mark.parametrize(
    ("key", "row", "column", "method", "dataset", "protocol"),
    [
        ("sfp/table-1", "SFP", "VOC21", "sfp", "voc21", "sfp"),
        ("sc-clip/table-1", "ViT-B/16 SC-CLIP", "City", "sc-clip", "cityscapes", "sc-clip"),
        ("cliptrase/table-1", "CLIPtrase", "ADEfull", "cliptrase", "ade847", "cliptrase"),
        ("clearclip/table-3", "ClearCLIP", "Object", "clearclip", "coco-object", "clearclip"),
    ],
)
def test_grids_and_the_table_of_results_have_one_source(key, row, column, method, dataset, protocol):
    assert published(method, dataset, "ViT-B/16", protocol)[0].miou == cell(key, row, column)


def test_figures_are_every_choice_with_every_other():
    figure = experiments()["clearclip/figure-5"]
    assert {row.backbone.partition("/")[2] for row in figure.rows} == {
        "openai",
        "laion2b_s34b_b88k",
        "laion2b_s32b_b82k",
    }
    assert "clearclip:residual=false,ffn=true,kernel=identity" in {row.method for row in figure.rows}
    assert len({(row.backbone, row.method) for row in figure.rows}) == 4 * 3 * 5
    scales = {row.method for row in experiments()["clearclip/figure-6"].rows}
    assert "clearclip:kernel=vv,residual=true,ffn=true,alpha=0.5" in scales


def test_the_page_names_every_table_with_its_counts():
    page = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text("utf-8")
    for key, table in experiments().items():
        places = list(table.places())
        printed = sum(place.printed is not None for place in places)
        assert re.search(
            rf"^\| `{key}` .*\| {printed} \| {sum(place.runs for place in places)} \|$", page, re.MULTILINE
        )


def test_a_paper_names_all_its_tables_and_a_wrong_name_is_reported():
    assert [table.key for table in experiments_named("sc-clip")] == [
        f"sc-clip/table-{number}" for number in range(1, 10)
    ]
    assert [table.key for table in experiments_named("sc-clip/table-3")] == ["sc-clip/table-3"]
    with pytest.raises(UnknownName, match="Did you mean `sc-clip/table-3`"):
        experiments_named("scclip/table-3")


def test_rows_are_chosen_by_their_name_or_whole_words_of_it():
    table = experiments()["cliptrase/table-3"]
    assert [row.name for row in table.only(["sam", "CLIP"]).rows] == ["CLIP", "SCR+D+SAM"]
    assert [row.name for row in table.only(["scr"]).rows] == ["SCR+PC+D", "SCR+D+SAM"]
    assert set(table.only(["CLIP"]).doubts) == {("CLIP", "Avg.")}
    assert len(groups(table.only(["CLIP"]), Selection())[0]) == 9
    with pytest.raises(UnknownName, match=r"no row of `cliptrase/table-3` `DINO`.*Known: CLIP, SCR"):
        table.only(["CLIP", "DINO"])
    with pytest.raises(UnknownName, match="Did you mean `SCR"):
        table.only(["SCR+P"])  # a part of a word is no word


@pytest.mark.parametrize(
    "key, asked, rows",
    [
        ("sc-clip/table-1", "CLIP", ["ViT-B/16 CLIP"]),
        ("sc-clip/table-1", "vit-l/14 clip", ["ViT-L/14 CLIP"]),
        ("sc-clip/table-1", "SC-CLIP", ["ViT-B/16 SC-CLIP"]),
        ("sc-clip/table-1", "Surgery", ["ViT-B/16 CLIP Surgery", "ViT-L/14 CLIP Surgery"]),
        ("sc-clip/table-9", "CLIP", ["CLIP"]),
        ("sc-clip/table-3", "10", ["resolve (10)"]),
        ("sc-clip/table-5", "{5, 9}", ["{5, 9}"]),
        ("clearclip/figure-6", "q-q, α = 1", ["q-q, α = 1"]),
        ("sc-clip/table-1", "NACL", []),
        ("sc-clip/table-1", " ", []),
    ],
)
def test_a_name_of_a_row_means_no_row_that_only_contains_its_letters(key, asked, rows):
    assert experiments()[key].rows_named(asked) == rows


def test_a_word_of_many_rows_means_all_of_them():
    table = experiments()["clearclip/figure-6"]
    assert table.rows_named("q-k") == [row.name for row in table.rows if row.name.startswith("q-k,")]
    assert len(table.rows_named("q-k")) == 6
    assert len(table.rows_named("α = 1")) == 5  # not α = 10 and 100


def test_a_data_set_of_another_table_is_named_with_that_table():
    table = experiments()["sc-clip/table-3"]
    with pytest.raises(
        ValueError, match=r"`sc-clip/table-3` has no data set `voc20`, only .*; `sc-clip/table-1` has it"
    ):
        groups(table, Selection(data_sets=("voc20",)))
    with pytest.raises(ValueError, match=r"`cliptrase/table-8` has it"):  # no table of SC-CLIP has it
        groups(table, Selection(data_sets=("coco-stuff-27",)))
    with pytest.raises(ValueError, match=r"`sc-clip/table-3` has no data set `cifar100`.*`sfp/classification` has it"):
        groups(table, Selection(data_sets=("cifar100",)))


def test_offline_the_second_backbone_is_the_first():
    runs, _ = groups(experiments()["sfp/table-1"], Selection(offline=True))
    methods = {place.row.method for places in runs.values() for place in places}
    assert {"proxyclip:vfm=self", "lavg:vfm=self", "clip"} <= methods
    (places,) = groups(experiments()["cliptrase/table-5"], Selection(offline=True))[0].values()
    assert places[0].row.method == "cliptrase:masks=affinity(vfm=self)"


def test_offline_a_second_backbone_that_a_row_names_is_the_first_and_others_get_none():
    (places,) = groups(experiments()["sc-clip/table-4"], Selection(offline=True))[0].values()
    methods = {place.row.name: place.row.method for place in places}
    assert methods["last: DINO"].startswith("sc-clip:vfm=self,pre=false")
    assert "vfm" not in methods["last: 4"]
    assert len(methods) == 13


@pytest.mark.parametrize("offline", [False, True])
def test_a_second_backbone_of_ones_choice_stands_in_the_rows_that_have_one(offline):
    choice = Selection(second="timm:vit_tiny@/w,x.safetensors", offline=offline)
    chosen = "vfm=timm(vit_tiny@/w,x.safetensors)"
    for key, row, expected in [
        ("sc-clip/table-4", "last: DINO", f"sc-clip:{chosen},pre=false,purifier=keep,similarity_weight=0,"),
        ("sc-clip/table-4", "last: 4", "sc-clip:"),
        ("sfp/table-1", "ProxyCLIP", f"proxyclip:{chosen}"),
        ("cliptrase/table-5", "with DINOv2", f"cliptrase:masks=affinity({chosen})"),
    ]:
        places = [place for group in groups(experiments()[key], choice)[0].values() for place in group]
        (spec,) = {place.row.method for place in places if place.row.name == row}
        assert spec.startswith(expected)
        assert (chosen in spec) == (chosen in expected)
    assert Selection(second="pocket").method_of(places[0]).count("vfm=pocket") == 1
    classified = next(experiments()["sfp/classification"].places())
    assert choice.method_of(classified) == classified.row.method


def test_rows_of_one_setting_share_a_run():
    table = experiments()["sc-clip/table-3"]
    runs, _ = groups(table, Selection())
    assert {group.dataset for group in runs} == {"voc21", "context60", "coco-object", "context59", "coco-stuff"}
    assert all(len(places) == 6 for places in runs.values())
    assert len(groups(table, Selection(offline=True))[0]) == 1
    only = groups(table, Selection(data_sets=("voc21",)))[0]
    assert [group.dataset for group in only] == ["voc21"]
    with pytest.raises(ValueError, match="no data set `camvid`"):
        groups(table, Selection(data_sets=("camvid",)))
