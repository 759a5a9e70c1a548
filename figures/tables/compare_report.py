"""All figures of one comparison of detectors, each with the name of its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from figures.curves.layer_axis import layers_of, some_layers
from figures.curves.planted_roc import planted_roc
from figures.curves.probe_report import safe_name
from figures.curves.threshold_sweep import threshold_sweep
from figures.maps.one_image import image_names
from figures.maps.score_maps import score_maps
from figures.tables.agreement import agreement
from figures.tables.frames import table_layers
from figures.tables.purification_bars import VALUES, purification_bars

MOST_LAYERS = 4  # layers that have a figure of their own
AGREEMENTS: tuple[Literal["jaccard", "spearman"], ...] = ("jaccard", "spearman")


def compare_figures(
    scores: xr.Dataset,
    tables: Mapping[str, pd.DataFrame],
    *,
    images: Mapping[str, np.ndarray] | None = None,
    maps_for: int = 3,
) -> Iterator[tuple[str, Figure]]:
    """(file name without suffix, figure) of every figure that the scores and tables allow, one at a time.

    Of `tables`, those named `thresholds`, `agreement` and `purification` are drawn, where they have rows: `thresholds`,
    `agreement_<value>_layer_<n>`, `purification` and `purification_last`, what purifying changes at that layer and at
    the last one, with the detector's name behind it where the table has several in a column `detector`. Where outliers
    were planted, `planted_roc_layer_<n>`; then `scores_<image>` of the first `maps_for` images, those in `images`
    (name to (h, w, 3)) before the others. At most 4 layers have figures of their own. No images, no figures.

    Parameters
    ----------
    scores : xarray.Dataset
        What `ao.score_images` gives: `score` and `marked` with dims detector, image, layer, row, col.
    tables : dict of str to pandas.DataFrame
        Tables by name: `thresholds`, `agreement`, `purification`.
    images : dict of str to array (H, W, 3), or None
        Images by their name in the run.
    maps_for : int
        Images that get maps of scores.

    Yields
    ------
    (str, matplotlib.figure.Figure)
        File name without suffix, and the figure.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> tables = {"thresholds": ao.threshold_table(scores)}
    >>> [name for name, _ in ao.compare_figures(scores, tables, maps_for=0)]
    ['thresholds']
    """
    if not scores.sizes.get("image", 0):
        return
    drawn = {name: table for name, table in tables.items() if not table.empty}
    if "thresholds" in drawn:
        yield "thresholds", threshold_sweep(drawn["thresholds"])
    if "agreement" in drawn:
        for layer in table_layers(drawn["agreement"], None, most=MOST_LAYERS):
            for value in AGREEMENTS:
                yield f"agreement_{value}_layer_{layer}", agreement(drawn["agreement"], layer=layer, value=value)
    if "planted" in scores:
        yield from planted_figures(scores)
    if "purification" in drawn:
        yield from _purification(drawn["purification"])
    images = images or {}
    taken: list[str] = []
    for image in sorted(image_names(scores), key=lambda name: name not in images)[: max(maps_for, 0)]:
        taken.append(safe_name(image, taken))
        yield f"scores_{taken[-1]}", score_maps(scores, image, pixels=images.get(image))


def planted_figures(
    scores: xr.Dataset, *, count: int | None = None, clustered: bool = False
) -> Iterator[tuple[str, Figure]]:
    """ROC against the `planted` outliers of the scores, for at most 4 layers.

    With `count`, how many were planted, side by side or not, names and titles say so: of several plantings each has
    figures of its own.
    """
    how = "clustered" if clustered else "scattered"
    name = "planted_roc" if count is None else f"planted_roc_k{count}_{how}"
    title = "" if count is None else f"{count} planted in each image, {how}"
    for layer in some_layers(layers_of(scores), MOST_LAYERS):
        yield f"{name}_layer_{layer}", planted_roc(scores, layer=layer, title=title)


def _purification(table: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    """Bars for each detector whose outliers were purified, at that layer and at the last, where there are numbers."""
    taken: list[str] = []
    detectors = list(dict.fromkeys(table["detector"].astype(str))) if "detector" in table else [""]
    for spec in detectors:
        rows = table[table["detector"].astype(str) == spec] if spec else table
        taken.append(safe_name(spec, taken))
        behind = f"_{taken[-1]}" if len(detectors) > 1 else ""
        for at, (change, *_) in VALUES.items():
            if change in rows and rows[change].notna().any():
                name = "purification" if at == "layer" else f"purification_{at}"
                yield f"{name}{behind}", purification_bars(rows, at=at, title=spec)
