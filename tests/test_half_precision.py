"""What bf16 changes, as measured: the page, the lists and docstrings have the kept numbers."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diagnostics
from attention_outliers import half_precision
from attention_outliers.half_precision import changes, measured
from benchmarks.half_precision import Pair, detectors, measures, methods
from diagnostics import MEASURES, load_backbone
from diagnostics.detectors import DETECTORS
from segment.datasets.shapes import NAMES, Shapes
from segment.methods import METHODS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "half-precision.md").read_text(encoding="utf-8")
# A model of choice; what is learned or read from a run; and what needs labels.
NOT_MEASURED = {"pyod", "profile", "auto", "auc"}


@pytest.fixture(scope="module")
def pair() -> Pair:
    images = [Image.fromarray(sample.image) for sample in Shapes(scenes=2)]
    return Pair("tiny:depth=3,size=96", images, NAMES[:4])


def test_nearly_every_part_is_measured_and_its_rows_stand_on_the_page():
    """A part that came after the last measurement has an empty place in the lists."""
    for kind, registry in (("detectors", DETECTORS), ("measures", MEASURES), ("methods", METHODS)):
        assert set(changes(kind)) <= set(registry)
        assert 8 * len(set(registry) - NOT_MEASURED - set(changes(kind))) <= len(registry)
        for rows in measured()[kind].values():
            for row in rows:
                cells = ["" if value is None else str(value) for value in row.values()]
                assert f"| {' | '.join(cells)} |\n" in PAGE


@pytest.mark.parametrize("name", sorted(changes("detectors")))
def test_the_docstring_of_a_detector_has_what_was_measured(name):
    rows = [row for network in measured()["detectors"].values() for row in network if row["detector"] == name]
    text = " ".join(inspect.getdoc(DETECTORS[name]).split())
    most = max(row["marks that differ, %"] for row in rows)
    if most:
        assert f"In bf16 up to {most:.0f} % of the marks differ" in text
    else:
        assert re.search("In bf16 (no mark differed|nothing is marked)", text)
    ranks = [row["rank correlation"] for row in rows if math.isfinite(row["rank correlation"] or math.nan)]
    assert f"rank correlation is {min(ranks):.3g} or more" in text


def test_the_most_of_all_networks_and_layers_stands_in_the_lists(monkeypatch):
    kept = {
        "measures": {
            "one": [{"measure": "a", "variable": "x", "largest, %": "2.5", "entries that differ, %": ""}],
            "two": [
                {"measure": "a", "variable": "x", "largest, %": "0.25", "entries that differ, %": ""},
                {"measure": "a", "variable": "y", "largest, %": "", "entries that differ, %": 12.0},
                {"measure": "b", "variable": "z", "largest, %": "0", "entries that differ, %": ""},
            ],
        }
    }
    monkeypatch.setattr(half_precision, "measured", lambda: kept)
    assert changes("measures") == {"a": "≤ 2.5 %, ≤ 12 % of whole numbers", "b": "none"}


def test_marks_that_differ_are_counted_over_those_of_either_precision(pair):
    table = detectors(pair, ["norm-topk"])
    assert list(table["layer"]) == pair.layers == [2, 3]
    for layer, share in zip(table["layer"], table["marks that differ, %"], strict=True):
        chosen = []
        for precision in ("fp32", "bf16"):
            model = load_backbone("tiny:depth=3,size=96", precision=precision)
            norms = []
            for image in pair.images:
                pixels = diagnostics.load_image(image, size=model.native_size, mean=model.mean, std=model.std)
                with torch.no_grad():
                    tokens = model.trunk(pixels[None], stop=layer)
                norms.append(tokens[0, 1:].float().norm(dim=-1).numpy())
            chosen.append([set(np.argsort(-part, kind="stable")[:10].tolist()) for part in norms])
        either = sum(len(a | b) for a, b in zip(*chosen, strict=True))
        both = sum(len(a & b) for a, b in zip(*chosen, strict=True))
        assert share == pytest.approx(100 * (either - both) / either, abs=0.051)


def test_measures_and_methods_have_a_row_each(pair):
    table = measures(pair, ["norms", "top-channels"])
    assert list(table["variable"]) == ["norm", "norm_outliers", "norm_ratio", "top_channel", "top_channel_value"]
    assert float(table.loc[0, "largest, %"]) > 0
    assert 0 <= table.loc[1, "entries that differ, %"] <= 100
    labels = methods(pair, ["clip", "proxyclip"])
    assert list(labels["method"]) == ["clip", "proxyclip"]
    assert (labels["in the worst image, %"] >= labels["labels that differ, %"]).all()
