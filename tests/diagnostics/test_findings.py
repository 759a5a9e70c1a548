"""Sentences say what the tables show, and nothing else."""

from __future__ import annotations

import pandas as pd

from diagnostics.findings import findings

THRESHOLDS = pd.DataFrame(
    {"detector": ["a", "b", "c"], "own": True, "first_layer": [8.0, 3.0, None], "layer": 8, "threshold": 1.0}
)
AGREEMENT = pd.DataFrame(
    {"detector": ["a", "a", "b"], "other": ["b", "c", "c"], "layer": 8, "jaccard": [0.9, 0.1, 0.5], "spearman": 0.0}
)
PLANTED = pd.DataFrame(
    {
        "detector": ["a", "a", "b", "b"],
        "layer": 8,
        "planted": [1, 35, 1, 35],
        "clustered": True,
        "auc": [0.99, 0.4, 0.97, 0.96],
        "best_f1": [0.9, 0.2, 0.8, 0.8],
        "best_threshold": [2.5, 2.5, 7.0, 7.0],
        "own_recall": [0.9, 0.2, 0.1, 0.1],
        "own_precision": [0.9, 0.2, 0.1, 0.1],
    }
)


def test_every_table_has_its_sentence():
    said = " ".join(findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT, "planted": PLANTED}))
    assert "b at 3; a at 8" in said
    assert "never mark half the pictures: c" in said
    assert "a and b agree most (Jaccard 0.90" in said
    assert "a and c least (0.10)" in said
    assert "Against planted outliers, b ranks patches best (AUC 0.965), a worst (0.695)" in said
    assert "costs b the most: F1 0.10 at layer 8 where 7 would reach 0.80" in said
    assert "a goes blind as clustered outliers grow in number: AUC 0.99 with 1, 0.40 with 35" in said
    assert "b goes blind" not in said


def test_other_numbers_make_other_sentences():
    other = PLANTED.assign(auc=[0.99, 0.98, 0.5, 0.5])
    said = " ".join(findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT, "planted": other}))
    assert "a ranks patches best (AUC 0.985)" in said
    assert "goes blind" not in said


def test_what_was_not_asked_is_not_said():
    said = findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT.assign(jaccard=float("nan"))})
    assert not [sentence for sentence in said if "agree" in sentence or "Against" in sentence]


def test_what_mending_does_is_told_beside_its_control():
    removal = pd.DataFrame(
        {
            "layer": 11,
            "mode": "in place",
            "purifier": ["neighbour-mean", "shuffle", "keep"],
            "delta_auc": [0.025, 0.017, 0.0],
            "low": [0.02, 0.01, 0.0],
            "high": [0.03, 0.02, 0.0],
        }
    )
    tables = {"thresholds": THRESHOLDS, "agreement": AGREEMENT}
    said = findings({**tables, "removal": removal})[-1]
    assert "layer 11 with neighbour-mean changes its same-class AUC by +0.025 [+0.020, +0.030]" in said
    assert "the control, other patches of the picture, by +0.017" in said
    assert "chance" not in said
    assert "chance" in findings({**tables, "removal": removal.assign(low=-0.1)})[-1]
