"""Tables of cells: what stands where, in each form; and two methods held against each other."""

import dataclasses

import numpy as np
import pytest

from attention_outliers.papers.results_table import rendered, sheets
from segment.evaluation.engines import Local
from segment.evaluation.evaluate import evaluate
from segment.evaluation.paired import compared_by, paired_differences
from segment.evaluation.results import ResultCell, read_cells

EMPTY = ResultCell(
    method="sfp", dataset="voc21", backbone="open_clip:ViT-B-16/openai", protocol="sfp", hash="abc", published=True,
    departures=(), miou=0.64, low=0.62, high=0.655, macc=None, pacc=None, fwiou=None, boundary_iou=None,
    never_predicted=(), classes=(), matching=None,
    images={"scored": 1449, "broken": 0, "skipped": 0, "asked": 1449, "has": 1449},
    broken={}, seconds=1.0, settings={}, versions={}, run="r",
)  # fmt: skip


def cell(**changes):
    return dataclasses.replace(EMPTY, **changes)


def test_a_cell_stands_beside_its_published_number_and_the_difference():
    (sheet,) = sheets([cell(), cell(method="clip", miou=0.2), cell(dataset="shapes", miou=0.5)])
    assert sheet.header == ("method", "shapes", "voc21", "published", "difference")
    assert sheet.rows == (
        ("clip", "–", "20.00 [62.0, 65.5]", "18.6", "+1.40"),
        ("sfp", "50.00 [62.0, 65.5]", "64.00 [62.0, 65.5]", "63.9", "+0.10"),
    )
    assert any("SFP, ICCV 2025, Table 1" in note for note in sheet.notes)
    assert any(note.startswith("[low, high]: the 95 % interval") for note in sheet.notes)
    assert "voc21: protocol abc, 1449 of 1449 images" in sheet.notes


def test_runs_on_a_part_and_numbers_of_another_protocol_are_marked():
    part = {"scored": 20, "broken": 1, "skipped": 0, "asked": 21, "has": 1449}
    (sheet,) = sheets([cell(protocol="ours", published=False, images=part)])
    assert sheet.rows[0][1].endswith("*")
    assert sheet.rows[0][2] == "63.9~"
    assert "voc21: protocol abc, 20 of 1449 images, 1 broken" in sheet.notes


def test_one_image_has_no_interval_and_the_note_says_why():
    alone = {"scored": 1, "broken": 0, "skipped": 0, "asked": 1, "has": 1}
    (sheet,) = sheets([cell(images=alone, miou=0.231, low=0.231, high=0.231)])
    assert sheet.rows[0][1] == "23.10 [–]"
    assert any(note.startswith("[–]: no 95 % interval; it takes at least 2 images") for note in sheet.notes)
    assert not any(note.startswith("[low, high]") for note in sheet.notes)
    (sheet,) = sheets([cell()])
    assert not any(note.startswith("[–]") for note in sheet.notes)


def test_images_that_a_protocol_skips_are_reported_and_not_missed():
    most = {"scored": 1440, "broken": 0, "skipped": 9, "asked": 1449, "has": 1449}
    (sheet,) = sheets([cell(images=most)])
    assert not sheet.rows[0][1].endswith("*")
    assert "voc21: protocol abc, 1440 of 1449 images, 9 skipped" in sheet.notes


def test_changed_protocols_and_other_backbones_have_sheets_of_their_own():
    tables = sheets([cell(), cell(departures=("set: scale=41",), hash="def"), cell(backbone="pocket")])
    assert [sheet.title for sheet in tables] == [
        "mIoU, open_clip:ViT-B-16/openai, protocol sfp",
        "mIoU, open_clip:ViT-B-16/openai, protocol sfp (scale=41)",
        "mIoU, pocket, protocol sfp; other weights than the papers', so no published number",
    ]
    assert tables[2].header == ("method", "voc21")


def test_one_protocol_under_several_names_is_one_sheet():
    quoted = cell(method="clip", protocol="naclip", departures=("set: refine=none",))
    apart = cell(method="clip", protocol="ours", dataset="ade150", hash="xyz")
    other = cell(method="clip", protocol="sclip", hash="abc")
    elsewhere = cell(method="clip", protocol="sc-clip", dataset="ade150", hash="uvw")
    tables = sheets([cell(), quoted, apart, other, elsewhere, cell(dataset="ade150", hash="xyz")])
    assert [sheet.title for sheet in tables] == [
        # sfp is naclip and sclip on voc21, and ours on ade150; sc-clip has another ade150.
        "mIoU, open_clip:ViT-B-16/openai, protocols naclip (refine=none), sclip, ours, sfp",
        "mIoU, open_clip:ViT-B-16/openai, protocol sc-clip",
    ]
    assert [row[0] for row in tables[0].rows] == ["clip", "sfp"]


def test_a_number_of_the_same_protocol_under_another_name_is_not_marked():
    (sheet,) = sheets([cell(protocol="aaa", published=False), cell(method="clip")])
    assert sheet.title.endswith("protocols aaa, sfp")
    assert sheet.rows[1][2] == "63.9"  # SFP's own number, and its own protocol, which `aaa` is by its hash


def test_of_several_runs_of_a_cell_the_one_with_most_images_counts():
    part = {"scored": 20, "broken": 0, "skipped": 0, "asked": 20, "has": 1449}
    (sheet,) = sheets([cell(), cell(miou=0.9, images=part)])
    assert sheet.rows[0][1].startswith("64.00")


def test_the_three_forms_hold_the_same_numbers():
    (sheet,) = sheets([cell(method="sfp:a_b=1"), cell()])
    text, markdown, latex = (rendered(sheet, form) for form in ("text", "markdown", "latex"))
    assert text.splitlines()[1].split() == ["method", "voc21", "published", "difference"]
    assert "| sfp | 64.00 [62.0, 65.5] | 63.9 | +0.10 |" in markdown.splitlines()
    assert r"sfp:a\_b=1 & 64.00 [62.0, 65.5] & -- & -- \\" in latex.splitlines()
    assert latex.count(r"\\") == 3
    lines = rendered(dataclasses.replace(sheet, title="a\n\\input{b}"), "latex").splitlines()
    assert lines[0] == r"% a \input{b}"
    with pytest.raises(ValueError, match="markdown"):
        rendered(sheet, "html")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    evaluate(
        "tiny", "clip,clearclip", "shapes:scenes=8,height=48,width=64", out=folder / "a", engine=Local(workers=1),
        settings={"matching": "hungarian"},
    )  # fmt: skip
    return folder


def test_two_methods_are_compared_over_the_same_resamples(place):
    cells = {entry.method: entry for entry in read_cells(place)}
    (pair,) = paired_differences(list(cells.values()), "clip", "clearclip")
    assert pair.difference == pytest.approx(cells["clearclip"].miou - cells["clip"].miou)
    assert pair.low <= pair.high
    assert 0 <= pair.share <= 1
    (other,) = paired_differences(list(cells.values()), "clearclip", "clip")
    np.testing.assert_allclose((other.low, other.high), (-pair.high, -pair.low), atol=1e-12)
    (same,) = paired_differences(list(cells.values()), "clip", "clip")
    assert (same.low, same.high, same.share) == (0, 0, 0)


def test_methods_without_a_cell_in_common_are_refused(place):
    cells = read_cells(place)
    with pytest.raises(ValueError, match=r"no result of method `sclip` here; there are clearclip, clip"):
        paired_differences(cells, "clip", "sclip")
    apart = [dataclasses.replace(entry, hash=entry.method) for entry in cells]
    with pytest.raises(ValueError, match="in common"):
        paired_differences(apart, "clip", "clearclip")


def miou_by_hand(cells, name):
    return next(result.miou for result in cells if name in (result.method, result.backbone, result.place))


def test_two_backbones_are_compared_under_one_protocol(place, tmp_path):
    evaluate(
        "tiny:seed=1", "clip", "shapes:scenes=8,height=48,width=64", out=tmp_path / "b", engine=Local(workers=1),
        settings={"matching": "hungarian"},
    )  # fmt: skip
    cells = [result for result in (*read_cells(place), *read_cells(tmp_path)) if result.method == "clip"]
    assert compared_by(cells, ["tiny", "tiny:seed=1"]) == "backbone"
    (pair,) = paired_differences(cells, "tiny", "tiny:seed=1", by="backbone")
    assert pair.difference == pytest.approx(miou_by_hand(cells, "tiny:seed=1") - miou_by_hand(cells, "tiny"))
    with pytest.raises(ValueError, match=r"no result of backbone `pocket` here; there are tiny, tiny:seed=1"):
        paired_differences(cells, "tiny", "pocket", by="backbone")


def test_two_settings_of_a_method_are_compared_across_folders(place, tmp_path):
    data, engine = "shapes:scenes=8,height=48,width=64", Local(workers=1)
    evaluate("tiny", "clearclip:kernel=qk", data, out=tmp_path / "b", engine=engine, settings={"matching": "hungarian"})
    evaluate(
        "tiny", "clip", data, out=tmp_path / "c", engine=engine, settings={"size": "short:96", "matching": "hungarian"}
    )
    folders = [str(place / "a"), str(tmp_path / "b"), str(tmp_path / "c")]
    cells = [result for folder in folders for result in read_cells(folder)]
    assert compared_by(cells, folders) == "folder"
    (pair,) = paired_differences(cells, *folders[:2], by="folder")  # one clearclip in each, of other settings
    assert (pair.first.method, pair.second.method) == ("clearclip", "clearclip:kernel=qk")
    assert pair.difference == pytest.approx(pair.second.miou - pair.first.miou)
    (pair,) = paired_differences(cells, folders[0], folders[2], by="folder")  # one spec, protocols of other sizes
    assert (pair.first.method, pair.second.method) == ("clip", "clip")
    assert pair.first.hash != pair.second.hash
    with pytest.raises(ValueError, match=r"no data set, method, backbone and number of images in common"):
        paired_differences(cells, folders[1], folders[2], by="folder")


def test_results_scored_another_way_are_not_compared(place, tmp_path):
    evaluate("tiny", "clip", "shapes:scenes=8,height=48,width=64", out=tmp_path / "b", engine=Local(workers=1))
    cells = [*read_cells(place), *read_cells(tmp_path)]
    with pytest.raises(ValueError, match="in common"):  # the first folder's clusters were matched to classes
        paired_differences(cells, str(place / "a"), str(tmp_path / "b"), by="folder")


def test_a_folder_without_results_says_what_it_should_be(tmp_path):
    with pytest.raises(ValueError, match="--out"):
        read_cells(tmp_path)
