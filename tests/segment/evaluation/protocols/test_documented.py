"""The table of protocols in the documents says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from segment.decoding.refine.base import NoRefiner
from segment.decoding.windows import Slide
from segment.evaluation.protocols import PROTOCOLS, settings_table

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "why-your-number-differs.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("name, dataset, found", settings_table())
def test_every_setting_stands_in_the_table(name, dataset, found):
    windows = found.windows
    wanted = [
        found.size,
        f"{windows.crop}/{windows.stride}" if isinstance(windows, Slide) else "whole",
        f"{found.scale:g}",
        f"{found.threshold:g}" if found.threshold else "–",
        f"{found.smallest_area:g}" if found.smallest_area else "–",
        found.words,
        "–" if isinstance(found.refine, NoRefiner) else "pamr",
    ]
    rows = [row for row in ROWS if row[0] == f"`{name}`" and dataset in row[1].split(", ")]
    assert [row[2:] for row in rows] == [wanted]


def test_every_protocol_stands_in_the_table():
    assert {row[0].strip("`") for row in ROWS} == set(PROTOCOLS)
