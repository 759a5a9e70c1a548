"""Sentences say what the tables show, and nothing else."""

from __future__ import annotations

import pandas as pd

from diagnostics.studies.findings import findings
from diagnostics.studies.short_tables import short_tables

THRESHOLDS = pd.DataFrame(
    {
        "detector": ["a", "b", "c"],
        "own": True,
        "first_layer": [8.0, 3.0, None],
        "layer": 8,
        "threshold": 1.0,
        "tokens": [4.0, 2.0, 0.25],
        "share": [0.04, 0.02, 0.0025],
    }
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
    text = " ".join(findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT, "planted": PLANTED}))
    assert "b at 3; a at 8" in text
    assert "never mark half the images: c" in text
    assert "a and b agree most (Jaccard 0.90" in text
    assert "a and c least (0.10)" in text
    assert "Against planted outliers, b ranks patches best (AUC 0.965), a worst (0.695)" in text
    assert "costs b the most: F1 0.10 at layer 8 where 7 would reach 0.80" in text
    assert "a goes blind as clustered outliers grow in number: AUC 0.99 with 1, 0.40 with 35" in text
    assert "b goes blind" not in text


def test_two_detectors_alone_agree_neither_most_nor_least():
    text = findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT.iloc[:1]})[-1]
    assert text == "a and b mark the same tokens with a Jaccard of 0.90, mean over layers."


def test_other_numbers_make_other_sentences():
    other = PLANTED.assign(auc=[0.99, 0.98, 0.5, 0.5])
    text = " ".join(findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT, "planted": other}))
    assert "a ranks patches best (AUC 0.985)" in text
    assert "goes blind" not in text


def test_what_was_not_asked_is_not_said():
    text = findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT.assign(jaccard=float("nan"))})
    assert not [sentence for sentence in text if "agree" in sentence or "Against" in sentence]


def test_what_purifying_does_is_reported_beside_its_control():
    purification = pd.DataFrame(
        {
            "layer": 11,
            "mode": "in place",
            "purifier": ["neighbor-mean", "shuffle", "keep"],
            "marked": 4.0,
            "delta_auc": [0.025, 0.017, 0.0],
            "low": [0.02, 0.01, 0.0],
            "high": [0.03, 0.02, 0.0],
        }
    )
    tables = {"thresholds": THRESHOLDS, "agreement": AGREEMENT}
    text = findings({**tables, "purification": purification})[-1]
    assert "layer 11 with neighbor-mean changes its same-class AUC by +0.025 [+0.020, +0.030]" in text
    assert "the control, other patches of the image, by +0.017" in text
    assert "chance" not in text
    assert "chance" in findings({**tables, "purification": purification.assign(low=-0.1)})[-1]
    assert (
        "Purifying what som marks at layer 11 with"
        in findings({**tables, "purification": purification.assign(detector="som")})[-1]
    )


def test_of_many_layers_purifying_is_reported_of_the_best_and_the_last_and_of_none_where_nothing_is_marked():
    change = {6: 0.01, 7: 0.03, 8: 0.02, 9: 0.01, 10: 0.0}
    purification = pd.DataFrame(
        {
            "layer": list(change),
            "mode": "in place",
            "purifier": "zero",
            "marked": [4.0, 4.0, 4.0, 4.0, 0.0],
            "delta_auc": list(change.values()),
            "low": -0.1,
            "high": 0.1,
        }
    )
    text = findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT, "purification": purification})
    sentences = [sentence for sentence in text if "Purifying" in sentence]
    assert len(sentences) == 2
    assert "layer 7" in sentences[0]
    assert "layer 9" in sentences[1]


def test_tokens_that_keep_to_the_grid_are_named():
    stability = pd.DataFrame(
        {
            "detector": ["a", "b", "a", "b"],
            "layer": [8, 8, 11, 11],
            "change": "shift",
            "jaccard": [0.0, 0.7, 0.1, 0.9],
            "jaccard_chance": 0.03,
            "jaccard_grid": [0.9, 0.2, 0.7, 0.4],
        }
    )
    text = findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT, "stability": stability})[-2:]
    assert text[0] == (
        "After a shift by one patch, b marks the same content furthest above chance (Jaccard 0.80, of as many random "
        "patches 0.03)."
    )
    assert text[1].startswith(
        "These keep to places of the grid, whatever is there: a (Jaccard 0.80 with the grid, 0.05"
    )
    moved = stability.assign(jaccard_grid=0.0)
    assert "grid" not in findings({"thresholds": THRESHOLDS, "agreement": AGREEMENT, "stability": moved})[-1]


def test_a_detector_that_marks_nearly_everything_is_not_praised_for_stability_but_warned_of():
    thresholds = THRESHOLDS.assign(share=[0.83, 0.02, 0.25])
    stability = pd.DataFrame(
        {
            "detector": ["a", "b"],
            "layer": 8,
            "change": "shift",
            "jaccard": [0.88, 0.6],
            "jaccard_chance": [0.71, 0.01],
            "jaccard_grid": [0.8, 0.5],
        }
    )
    text = findings({"thresholds": thresholds, "agreement": AGREEMENT, "stability": stability})
    assert next(sentence for sentence in text if "quarter of the patches" in sentence).endswith(": a (83%).")
    assert "b marks the same content furthest above chance (Jaccard 0.60, of as many random patches 0.01)" in text[-1]
    by_chance = findings(
        {"thresholds": thresholds, "agreement": AGREEMENT, "stability": stability.assign(jaccard_chance=0.9)}
    )
    assert by_chance[-1].endswith("no detector marks more of the same content than chance would.")


def test_the_detector_whose_tokens_lie_furthest_from_the_base_rate_is_named():
    location = pd.DataFrame(
        {
            "detector": ["a", "b", "c"],
            "layer": [8, 11, 11],
            "labeled": [1, 400, 0],
            "background": [1.0, 0.9, float("nan")],
            "background_all": 0.6,
        }
    )
    tables = {"thresholds": THRESHOLDS, "agreement": AGREEMENT}
    text = findings({**tables, "location": location})[-1]
    assert text == "Of the 400 labeled tokens that b marks at layer 11, 90% lie on background, and of all patches 60%."
    unlabeled = location.drop(columns=["labeled", "background", "background_all"])
    assert "background" not in findings({**tables, "location": unlabeled})[-1]


def test_what_purifying_does_to_the_accuracy_is_reported():
    purification = pd.DataFrame(
        {
            "layer": [8, 11],
            "mode": "propagated",
            "purifier": ["zero", "keep"],
            "marked": 4.0,
            "delta_auc": float("nan"),
            "accuracy_before": 0.7,
            "accuracy_after": [0.4, 0.7],
        }
    )
    tables = {"thresholds": THRESHOLDS, "agreement": AGREEMENT}
    text = findings({**tables, "purification": purification})[-1]
    assert "accuracy is 0.700; purifying layer 11 with keep makes it 0.700, layer 8 with zero 0.400" in text
    assert "accuracy" not in findings({**tables, "purification": purification.assign(accuracy_after=float("nan"))})[-1]


def test_where_nothing_is_marked_that_is_all_that_is_reported():
    thresholds = THRESHOLDS.assign(first_layer=float("nan"), tokens=0.0)
    agreement = AGREEMENT.assign(jaccard=float("nan"))
    assert findings({"thresholds": thresholds, "agreement": agreement}) == [
        "Nothing was marked: by their own thresholds the detectors mark no token in any layer."
    ]


def test_a_detector_that_marks_nothing_agrees_with_nobody():
    thresholds = THRESHOLDS.assign(tokens=[4.0, 2.0, 0.0])
    sentences = findings({"thresholds": thresholds, "agreement": AGREEMENT.assign(jaccard=[0.0, 0.0, 0.0])})
    assert "By their own thresholds these mark nothing in any layer: c." in sentences
    assert "No two detectors mark a token in common." in sentences
    assert not [sentence for sentence in sentences if "agree most" in sentence or "never mark half" in sentence]
    # Only a and b are left, so that a pair with c is neither the best nor the worst.
    assert (
        findings({"thresholds": thresholds, "agreement": AGREEMENT.assign(jaccard=[0.5, 0.0, 0.9])})[-1]
        == "a and b mark the same tokens with a Jaccard of 0.50, mean over layers."
    )


def test_purification_of_nothing_has_no_numbers():
    numbers = {
        "layer": [8, 11], "mode": "propagated", "purifier": "zero", "marked": [0.0, 0.5], "delta_auc": float("nan"),
        "delta_auc_last": [0.0, 0.01], "class_cosine": [1.0, 0.9], "accuracy_before": 0.7, "accuracy_after": [0.7, 0.6],
        "detector": "som",
    }  # fmt: skip
    table = pd.DataFrame(numbers)
    tables = {"thresholds": THRESHOLDS, "agreement": AGREEMENT, "purification": table}
    short = short_tables(tables)
    cosine = short["cosine of the class token, purifying what som marks, by layer"]
    assert list(cosine.columns) == [11]
    assert cosine.loc["zero", 11] == 0.9
    assert "layer 8" not in findings(tables)[-1]
    tables["purification"] = table.assign(marked=0.0)
    assert not [title for title in short_tables(tables) if "purifying" in title]
    assert findings(tables)[-1] == "Nothing was purified: som marks no token in these layers."
