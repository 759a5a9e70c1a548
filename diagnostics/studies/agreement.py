"""Whether detectors mark the same tokens, and rank them alike."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import spearmanr


def agreement_table(scores: xr.Dataset) -> pd.DataFrame:
    """Do detectors agree? A row for each two detectors and layer.

    `jaccard`: common over all marked tokens by the detectors' own thresholds, over all images; nan where neither
    marks any. `spearman`: rank correlation of scores within an image, mean over images.
    """
    rows = []
    for first, second in itertools.combinations(scores["detector"].values, 2):
        for layer in scores["layer"].values:
            one, other = (scores.sel(detector=spec, layer=layer) for spec in (first, second))
            union = (one["marked"] | other["marked"]).sum().item()
            common = (one["marked"] & other["marked"]).sum().item()
            ranks = [
                spearmanr(a[where], b[where]).statistic
                for a, b, where in zip(one["score"].values, other["score"].values, scores["inside"].values, strict=True)
                if np.ptp(a[where]) > 0 and np.ptp(b[where]) > 0
            ]
            rows.append(
                {
                    "detector": str(first),
                    "other": str(second),
                    "layer": int(layer),
                    "jaccard": common / union if union else np.nan,
                    "spearman": float(np.mean(ranks)) if ranks else np.nan,
                }
            )
    return pd.DataFrame(rows, columns=["detector", "other", "layer", "jaccard", "spearman"])
