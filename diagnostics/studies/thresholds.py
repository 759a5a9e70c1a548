"""How many tokens detectors mark at each threshold, from scores: no forward pass is made."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from diagnostics.studies.location import where_marked

# Thresholds of a sweep. Our choice.
THRESHOLDS = 20
# How many thresholds of a sweep to find among the scores; or the thresholds, for all detectors or by spec.
Thresholds = int | Sequence[float] | Mapping[str, Sequence[float]]


def threshold_table(
    scores: xr.Dataset,
    *,
    thresholds: Thresholds = THRESHOLDS,
    truth: xr.DataArray | None = None,
    places: xr.Dataset | None = None,
) -> pd.DataFrame:
    """How many tokens each threshold marks: a row for each detector, layer and threshold.

    Columns: `tokens` (mean of an image), `images` (share with any), `own` (the detector's own rule; its threshold is
    nan where it has a quota). `first_layer` is the first at which half the images have a marked token, nan if none.
    `thresholds`: how many of a sweep, which lie among the scores of all layers (`sweep_shares`); or the thresholds
    themselves, for all detectors or by spec. The detector's own is added.
    With `truth` (image, row, col) also `precision`, `recall` and `f1`, over the tokens of all images; nan where
    undefined. With `places`, from `patch_places`, also what `where_marked` tells of the marked tokens, and of all
    tokens with `_all` behind the name: the base rates.
    """
    rows: list[dict[str, Any]] = []
    inside = scores["inside"].transpose("image", "row", "col").values
    everything = {} if places is None else {f"{k}_all": v.item() for k, v in where_marked(inside, places).items()}
    real = None if truth is None else truth.transpose("image", "row", "col").values
    for spec in scores["detector"].values:
        here = scores.sel(detector=spec)
        values, own = (here[name].transpose("layer", "image", "row", "col").values for name in ("score", "marked"))
        sweep = _sweep(thresholds, str(spec), values[np.isfinite(values)])
        for threshold, marked, is_own in [
            *((float(t), values > t, False) for t in sweep),
            (float(here["threshold"]), own, True),
        ]:
            counts = marked.sum(axis=(-2, -1))  # layer, image
            fires = (counts > 0).mean(axis=1)
            early = np.flatnonzero(fires >= 0.5)
            first = float(scores["layer"].values[early[0]]) if early.size else np.nan
            where = {} if places is None else where_marked(marked, places)
            for place, layer in enumerate(scores["layer"].values):
                rows.append(
                    {
                        "detector": str(spec),
                        "layer": int(layer),
                        "threshold": threshold,
                        "own": is_own,
                        "tokens": float(counts[place].mean()),
                        "images": float(fires[place]),
                        "first_layer": first,
                        **({} if real is None else _against(marked[place], real, inside)),
                        **{name: found[place] for name, found in where.items()},
                        **everything,
                    }
                )
    return pd.DataFrame(rows)


def _sweep(thresholds: Thresholds, spec: str, known: np.ndarray) -> np.ndarray:
    """The thresholds of one detector, ascending; `known` are its finite scores."""
    if isinstance(thresholds, Mapping):
        thresholds = thresholds.get(spec, ())
    if isinstance(thresholds, int) and not isinstance(thresholds, bool) and thresholds > 0:
        return np.unique(np.quantile(known, sweep_shares(thresholds, known.size))) if known.size else np.array([])
    listed = isinstance(thresholds, Iterable) and not isinstance(thresholds, str)
    given = list(thresholds) if listed else [thresholds]  # type: ignore[arg-type]
    bad = [one for one in given if isinstance(one, bool) or not isinstance(one, numbers.Real) or not np.isfinite(one)]
    if bad or not listed:
        raise ValueError(
            f"`thresholds` should be how many to sweep, such as {THRESHOLDS}, or finite numbers such as [50, 100], or "
            f"such numbers by detector; got {(bad or given)[0]!r} for `{spec}`."
        )
    return np.unique(np.array(given, dtype=float))


def sweep_shares(thresholds: int, count: int) -> np.ndarray:
    """Quantiles of a sweep: half at even steps up to 0.95, half ever closer to 1, where few outliers decide.

    Our choice. `count` scores leave room up to the last but one.
    """
    even = thresholds - thresholds // 2
    top = 1 - np.geomspace(0.05, min(1 / max(count, 2), 0.05), thresholds // 2)
    return np.concatenate([np.linspace(0, 0.95, even, endpoint=False), top])


def _against(marked: np.ndarray, real: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of marks against truth, among the patches inside."""
    marked, real = marked & inside, real & inside
    hits, said, there = float((marked & real).sum()), float(marked.sum()), float(real.sum())
    return {
        "precision": hits / said if said else np.nan,
        "recall": hits / there if there else np.nan,
        "f1": 2 * hits / (said + there) if said + there else np.nan,
    }
