"""Detectors against outliers whose places are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score


def truth_table(scores: xr.Dataset, truth: xr.DataArray) -> pd.DataFrame:
    """Detectors against known places: a row for each detector and layer, over the patches of all images.

    `truth` is bool with dims image, row, col, and layer if it changes with the layer. `auc` and `average_precision` as
    in scikit-learn; `best_f1` and the `best_threshold` that reaches it (marked is score > threshold); `own_precision`
    and `own_recall` of the detector's own rule. nan where there is nothing to find, or nothing else, and for scores
    that are nan.
    """
    rows = []
    inside = scores["inside"].values
    for spec in scores["detector"].values:
        for layer in scores["layer"].values:
            here = scores.sel(detector=spec, layer=layer)
            at = truth.sel(layer=layer) if "layer" in truth.dims else truth
            real = at.transpose("image", "row", "col").values.astype(bool)[inside]
            score, marked = here["score"].values[inside], here["marked"].values[inside]
            row: dict[str, Any] = {"detector": str(spec), "layer": int(layer), "outliers": int(real.sum())}
            whole = bool(np.isfinite(score).all())
            if real.any() and not real.all() and whole:
                f1, threshold = best_f1(real, score)
                row |= {
                    "auc": float(roc_auc_score(real, score)),
                    "average_precision": float(average_precision_score(real, score)),
                    "best_f1": f1,
                    "best_threshold": threshold,
                }
            if real.any() and whole:
                row["own_recall"] = float((marked & real).sum() / real.sum())
            if marked.any():
                row["own_precision"] = float((marked & real).sum() / marked.sum())
            rows.append(row)
    columns = ["detector", "layer", "outliers", "auc", "average_precision", "best_f1", "best_threshold"]
    return pd.DataFrame(rows).reindex(columns=[*columns, "own_recall", "own_precision"])


def best_f1(real: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """The largest F1 of «score > threshold», and a threshold that reaches it: halfway to the next lower score."""
    precision, recall, thresholds = precision_recall_curve(real, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    below = score[score < thresholds[best]]
    # scikit-learn counts score >= threshold; between two scores both readings are the same.
    lower = float(below.max()) if below.size else float(thresholds[best]) - 1.0
    return float(f1[best]), (float(thresholds[best]) + lower) / 2
