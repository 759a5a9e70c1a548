"""How many tokens detectors mark at each threshold, from scores: no forward pass is made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from diagnostics.studies.location import where_marked

# Thresholds of a sweep. Our choice.
THRESHOLDS = 20
# How many thresholds of a sweep to take from the scores; or the thresholds, for all detectors or by spec.
Thresholds = int | Sequence[float] | Mapping[str, Sequence[float]]


def threshold_table(
    scores: xr.Dataset,
    *,
    thresholds: Thresholds = THRESHOLDS,
    truth: xr.DataArray | None = None,
    places: xr.Dataset | None = None,
) -> pd.DataFrame:
    """How many tokens each threshold marks: a row for each detector, layer and threshold.

    Columns: `tokens` (mean of an image), `share` (of its patches, mean), `images` (share with any), `own` (the
    detector's own rule; its threshold is nan where it has a quota). `first_layer` is the first at which half the
    images have a marked token, nan if none. `thresholds`: how many of a sweep, which lie among the scores of all
    layers (`sweep_shares`); or the thresholds themselves, for all detectors or by spec. The detector's own is added.
    With `truth` (image, row, col) also `precision`, `recall` and `f1`, over the tokens of all images; nan where
    undefined. With `places`, from `patch_places`, also what `where_marked` measures of the marked tokens, and of all
    tokens with `_all` behind the name: the base rates.

    Parameters
    ----------
    scores : xarray.Dataset
        What `ao.score_images` gives: `score` and `marked` with dims detector, image, layer, row, col.
    thresholds : int, list of float, or dict
        How many thresholds of a sweep; or the thresholds themselves, for all detectors or by spec.
    truth : xarray.DataArray or None
        Known outliers, bool, with dims image, row, col.
    places : xarray.Dataset or None
        What `ao.patch_places` gives.

    Returns
    -------
    pandas.DataFrame
        Columns `detector`, `layer`, `threshold`, `own`, `tokens`, `share`, `images`, `first_layer`, and others, above.

    Raises
    ------
    ValueError
        For thresholds that are not finite numbers.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> table = ao.threshold_table(scores, thresholds=[2.0, 4.0])
    >>> int((~table["own"]).sum())  # two detectors, two thresholds
    4
    """
    rows: list[dict[str, Any]] = []
    inside = scores["inside"].transpose("image", "row", "col").values
    patches = inside.sum(axis=(-2, -1)).clip(min=1)
    base_rates: dict[str, float] = {}
    if places is not None:
        base_rates = {f"{name}_all": rate.item() for name, rate in where_marked(inside, places).items()}
    outliers = None if truth is None else truth.transpose("image", "row", "col").values
    for spec in scores["detector"].values:
        for threshold, marked, default in _markings(scores.sel(detector=spec), str(spec), thresholds):
            counts = marked.sum(axis=(-2, -1))  # layer, image
            fires = (counts > 0).mean(axis=1)
            early = np.flatnonzero(fires >= 0.5)
            first_layer = float(scores["layer"].values[early[0]]) if early.size else np.nan
            locations = {} if places is None else where_marked(marked, places)
            for place, layer in enumerate(scores["layer"].values):
                rows.append(
                    {
                        "detector": str(spec),
                        "layer": int(layer),
                        "threshold": threshold,
                        "own": default,
                        "tokens": float(counts[place].mean()),
                        "share": float((counts[place] / patches).mean()),
                        "images": float(fires[place]),
                        "first_layer": first_layer,
                        **({} if outliers is None else _against_truth(marked[place], outliers, inside)),
                        **{name: values[place] for name, values in locations.items()},
                        **base_rates,
                    }
                )
    return pd.DataFrame(rows)


def _markings(scores: xr.Dataset, spec: str, thresholds: Thresholds) -> Iterator[tuple[float, np.ndarray, bool]]:
    """Each threshold of one detector's sweep with what it marks (layer, image, row, col); its own rule comes last."""
    order = ("layer", "image", "row", "col")
    values, marked = (scores[name].transpose(*order).values for name in ("score", "marked"))
    for threshold in _sweep(thresholds, spec, values[np.isfinite(values)]):
        yield float(threshold), values > threshold, False
    yield float(scores["threshold"]), marked, True


def _sweep(thresholds: Thresholds, spec: str, finite: np.ndarray) -> np.ndarray:
    """The thresholds of one detector, ascending; `finite` are its finite scores."""
    if isinstance(thresholds, Mapping):
        thresholds = thresholds.get(spec, ())
    if isinstance(thresholds, int) and not isinstance(thresholds, bool) and thresholds > 0:
        return np.unique(np.quantile(finite, sweep_shares(thresholds, finite.size))) if finite.size else np.array([])
    listed = isinstance(thresholds, Iterable) and not isinstance(thresholds, str)
    numbers = list(thresholds) if listed else [thresholds]  # type: ignore[arg-type]
    wrong = [
        number
        for number in numbers
        if isinstance(number, bool) or not isinstance(number, Real) or not np.isfinite(number)
    ]
    if wrong or not listed:
        raise ValueError(
            f"`thresholds` should be how many to sweep, such as {THRESHOLDS}, or finite numbers such as [50, 100], or "
            f"such numbers by detector; got {(wrong or numbers)[0]!r} for `{spec}`."
        )
    return np.unique(np.array(numbers, dtype=float))


def sweep_shares(thresholds: int, count: int) -> np.ndarray:
    """Quantiles of a sweep: half at even steps up to 0.95, half ever closer to 1, where few outliers decide.

    Our choice. `count` scores leave room up to the last but one.
    """
    even = thresholds - thresholds // 2
    top = 1 - np.geomspace(0.05, min(1 / max(count, 2), 0.05), thresholds // 2)
    return np.concatenate([np.linspace(0, 0.95, even, endpoint=False), top])


def _against_truth(marked: np.ndarray, outliers: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of marks against known outliers, among the patches inside."""
    marked, outliers = marked & inside, outliers & inside
    hits, marks, known = float((marked & outliers).sum()), float(marked.sum()), float(outliers.sum())
    return {
        "precision": hits / marks if marks else np.nan,
        "recall": hits / known if known else np.nan,
        "f1": 2 * hits / (marks + known) if marks + known else np.nan,
    }
