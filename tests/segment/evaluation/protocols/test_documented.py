"""The table of protocols in the documents says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from segment.decoding.refine.base import NoRefiner
from segment.decoding.refine.pamr import Pamr
from segment.decoding.refine.tlp import Tlp
from segment.decoding.windows import Slide
from segment.evaluation.protocols import PROTOCOLS, settings_table

# What a refiner is called in the table.
NAMES = {NoRefiner: "–", Pamr: "pamr", Tlp: "tlp"}
ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "why-your-number-differs.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]


@pytest.mark.parametrize("name, dataset, protocol", settings_table())
def test_every_setting_stands_in_the_table(name, dataset, protocol):
    windows = protocol.windows
    wanted = [
        protocol.size,
        f"{windows.crop}/{windows.stride}" if isinstance(windows, Slide) else "whole",
        f"{protocol.scale:g}",
        f"{protocol.threshold:g}" if protocol.threshold else "–",
        f"{protocol.smallest_area:g}" if protocol.smallest_area else "–",
        protocol.words,
        NAMES[type(protocol.refine)],
    ]
    rows = [row for row in ROWS if row[0] == f"`{name}`" and dataset in row[1].split(", ")]
    assert [row[2:] for row in rows] == [wanted]


def test_every_protocol_stands_in_the_table():
    assert {row[0].strip("`") for row in ROWS} == set(PROTOCOLS)
