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
    and `own_recall` of the detector's own rule. nan where no patch is an outlier, or every one, and for scores
    that are nan.

    Parameters
    ----------
    scores : xarray.Dataset
        What `ao.score_images` gives: `score` and `marked` with dims detector, image, layer, row, col.
    truth : xarray.DataArray
        Known outliers, bool, with dims image, row, col, and layer if they change with it.

    Returns
    -------
    pandas.DataFrame
        `auc`, `average_precision`, `best_f1`, `own_precision` and `own_recall` in [0, 1]; `best_threshold` in the
        detector's unit.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> truth = scores["score"].sel(detector="relative-norm", drop=True) > 1.05
    >>> table = ao.truth_table(scores, truth)
    >>> list(table["detector"])
    ['norm', 'relative-norm']
    """
    rows = []
    inside = scores["inside"].values
    for spec in scores["detector"].values:
        for layer in scores["layer"].values:
            selected = scores.sel(detector=spec, layer=layer)
            outliers = (truth.sel(layer=layer) if "layer" in truth.dims else truth).transpose("image", "row", "col")
            known = outliers.values.astype(bool)[inside]
            score, marked = selected["score"].values[inside], selected["marked"].values[inside]
            row: dict[str, Any] = {"detector": str(spec), "layer": int(layer), "outliers": int(known.sum())}
            finite = bool(np.isfinite(score).all())
            if known.any() and not known.all() and finite:
                f1, threshold = best_f1(known, score)
                row |= {
                    "auc": float(roc_auc_score(known, score)),
                    "average_precision": float(average_precision_score(known, score)),
                    "best_f1": f1,
                    "best_threshold": threshold,
                }
            if known.any() and finite:
                row["own_recall"] = float((marked & known).sum() / known.sum())
            if marked.any():
                row["own_precision"] = float((marked & known).sum() / marked.sum())
            rows.append(row)
    columns = ["detector", "layer", "outliers", "auc", "average_precision", "best_f1", "best_threshold"]
    return pd.DataFrame(rows).reindex(columns=[*columns, "own_recall", "own_precision"])


def best_f1(known: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """The largest F1 of «score > threshold», and a threshold that reaches it: halfway to the next lower score."""
    precision, recall, thresholds = precision_recall_curve(known, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    below = score[score < thresholds[best]]
    # scikit-learn counts score >= threshold; between two scores both readings are the same.
    lower = float(below.max()) if below.size else float(thresholds[best]) - 1.0
    return float(f1[best]), (float(thresholds[best]) + lower) / 2
