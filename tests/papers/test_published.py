"""Published numbers: found by method, data set and backbone, each with its source."""

import pytest

from attention_outliers.papers.printed import _sources, openai_architecture, published
from segment.datasets import DATASETS
from segment.evaluation.protocols import PROTOCOLS
from segment.methods import METHODS

B16, L14 = "open_clip:ViT-B-16/openai", "open_clip:ViT-L-14/openai"


@pytest.mark.parametrize(
    "method, dataset, backbone, protocol, number",
    [
        ("sfp", "voc21", B16, "sfp", 63.9),
        ("sc-clip", "cityscapes", B16, "sc-clip", 41.0),
        ("sc-clip", "coco-object", L14, "sc-clip-l14", 40.5),
        ("clearclip", "ade150", B16, "clearclip", 16.7),
        ("clearclip", "ade150", B16, "sc-clip", 17.3),
        ("clearclip", "coco-stuff", L14, "clearclip", 19.9),
        ("cliptrase", "voc21:convention=cliptrase", B16, "cliptrase", 53.04),
        ("cliptrase", "ade847", B16, "cliptrase-224", 6.31),
        ("sclip", "coco-stuff-10k", B16, "sclip", 25.91),
        ("sclip", "voc20", B16, "clearclip", 78.2),
        ("sclip", "coco-object", B16, "clearclip", 30.0),
        ("sclip", "voc20", L14, "clearclip", 60.3),
        ("naclip", "voc21", B16, "naclip", 64.07),
    ],
)
def test_numbers_are_those_of_the_papers_tables(method, dataset, backbone, protocol, number):
    first = published(method, dataset, backbone, protocol)[0]
    assert first.miou == number
    assert first.same_protocol
    assert first.source


def test_numbers_of_another_protocol_say_so_and_a_papers_own_comes_first():
    numbers = published("sfp", "voc20", B16, "ours")
    assert [(number.miou, number.same_protocol) for number in numbers] == [(84.5, False)]
    assert published("clearclip", "voc20", B16)[0].key.startswith("clearclip/")
    # Rows that a table quotes were not made under its protocol. ClearCLIP quotes SCLIP's own numbers, and has others.
    quoted = {number.miou: number.same_protocol for number in published("sclip", "voc21", B16, "clearclip")}
    assert (quoted[51.4], quoted[59.1]) == (True, False)
    assert not published("lavg", "voc21", B16, "sfp")[0].same_protocol


@pytest.mark.parametrize(
    "method, dataset, backbone",
    [
        ("sfp", "voc21", "pocket"),
        ("sfp", "voc21", "open_clip:ViT-B-16/laion2b_s34b_b88k"),
        ("sfp", "voc21", "open_clip:ViT-B-32/openai"),
        ("sfp:detector=som", "voc21", B16),
        ("sfp", "shapes", B16),
        ("sfp", "coco-stuff-27:images=all", B16),
        ("nothing", "voc21", B16),
    ],
)
def test_what_was_never_printed_has_no_number(method, dataset, backbone):
    assert published(method, dataset, backbone, "sfp") == []


def test_specs_of_backbones_are_read_as_papers_write_them():
    assert openai_architecture("open_clip:ViT-L-14/openai") == "ViT-L/14"
    assert openai_architecture("openai:/weights/ViT-B-16.pt") == "ViT-B/16"
    assert openai_architecture("ViT-B/16") == "ViT-B/16"
    assert openai_architecture("open_clip:ViT-L-14-336/openai") is None


def test_sources_name_data_sets_methods_and_protocols_that_there_are():
    for source in _sources().values():
        assert set(source["protocols"]) <= PROTOCOLS.keys()
        assert set(source["own"]) <= METHODS.keys() & source["rows"].keys()
        for numbers in source["rows"].values():
            assert numbers.keys() <= DATASETS.keys()
            assert all(0 < number < 100 for number in numbers.values())


# The averages that the tables print beside their columns: a check against slips of the pen.
@pytest.mark.parametrize(
    "key, method, average",
    [
        ("sfp/table-1", "sfp", 44.0), ("sfp/table-1", "clip", 14.1), ("sfp/table-1", "naclip", 39.4),
        ("sfp/table-1", "sclip", 39.1), ("sfp/table-1", "proxyclip", 42.3), ("sfp/table-1", "maskclip", 27.9),
        ("sc-clip/table-1-b16", "sc-clip", 43.9), ("sc-clip/table-1-b16", "clip", 14.4),
        ("sc-clip/table-1-b16", "maskclip", 30.3), ("sc-clip/table-1-b16", "gem", 39.3),
        ("sc-clip/table-1-b16", "proxyclip", 40.1), ("sc-clip/table-1-l14", "sc-clip", 45.2),
        ("sc-clip/table-1-l14", "gem", 33.8), ("sc-clip/table-1-l14", "sclip", 29.5),
        ("cliptrase/table-1", "cliptrase", 33.53), ("cliptrase/table-1", "clip", 11.04),
        ("cliptrase/table-6", "cliptrase", 32.66), ("clearclip/table-2-b16", "clearclip", 37.5),
        ("clearclip/table-2-l14", "clip", 5.4), ("clearclip/table-3", "sclip", 40.0),
        ("naclip/readme", "naclip", 42.46),
    ],
)  # fmt: skip
def test_the_printed_averages_are_those_of_the_columns(key, method, average):
    numbers = _sources()[key]["rows"][method].values()
    assert sum(numbers) / len(numbers) == pytest.approx(average, abs=0.06)
