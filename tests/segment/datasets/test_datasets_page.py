"""The page on data sets says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from segment.datasets import DATASETS
from segment.datasets.words import load_words
from segment.evaluation.protocols import PROTOCOLS

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "datasets.md").read_text(encoding="utf-8")


def test_every_data_set_of_the_papers_has_its_row():
    rows = {
        name for line in re.findall(r"^\| (`.*?) \|", PAGE, flags=re.MULTILINE) for name in re.findall("`(.*?)`", line)
    }
    published = {dataset for protocols in PROTOCOLS.values() for dataset in protocols.known}
    assert published <= rows
    assert published <= set(DATASETS)


def test_the_counts_of_the_page_are_those_that_the_data_sets_declare():
    table = PAGE.partition("## What is scored")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \| ([\d, ]+) \| (\d+) \|", table, flags=re.MULTILINE)
    counts = {}
    for names, classes, images in rows:
        for name, number in zip(re.findall("`(.*?)`", names), classes.split(", "), strict=True):
            counts[name] = (int(number), int(images))
    assert len(counts) >= 16
    for name, count in counts.items():
        declared = DATASETS[name].declared
        assert (declared.classes, declared.images) == count, name


def test_the_query_counts_of_the_page_are_those_of_the_lists():
    table = PAGE[PAGE.index("| queries |") :].split("\n\n")[0].splitlines()
    columns = re.findall("`(.*?)`", table[0])
    for line in table[2:]:
        first, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        for words in re.findall("`(.*?)`", first):
            for data, cell in zip(columns, cells, strict=True):
                if words == "cliptrase" and data in ("context59", "coco-stuff", "ade150", "cityscapes"):
                    continue  # the names of the data set; none for Cityscapes
                assert len(load_words(words, data).queries) == int(cell)
