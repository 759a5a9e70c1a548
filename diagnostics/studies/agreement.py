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

    Parameters
    ----------
    scores : xarray.Dataset
        What `ao.score_images` gives: `score` and `marked` with dims detector, image, layer, row, col.

    Returns
    -------
    pandas.DataFrame
        Columns `detector`, `other`, `layer`, `jaccard` in [0, 1], `spearman` in [-1, 1].

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> list(ao.agreement_table(scores).columns)
    ['detector', 'other', 'layer', 'jaccard', 'spearman']
    """
    rows = []
    for first, second in itertools.combinations(scores["detector"].values, 2):
        for layer in scores["layer"].values:
            pair = [scores.sel(detector=spec, layer=layer) for spec in (first, second)]
            union = (pair[0]["marked"] | pair[1]["marked"]).sum().item()
            common = (pair[0]["marked"] & pair[1]["marked"]).sum().item()
            ranks = [
                spearmanr(a[inside], b[inside]).statistic
                for a, b, inside in zip(*(side["score"].values for side in pair), scores["inside"].values, strict=True)
                if np.ptp(a[inside]) > 0 and np.ptp(b[inside]) > 0
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
