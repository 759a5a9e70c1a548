"""Detectors side by side at every layer and threshold, on images as they are and with outliers planted: one table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypedDict, Unpack

import pandas as pd

from diagnostics.backbones.base import Backbone
from diagnostics.images.label_maps import IGNORE
from diagnostics.options import RunOptions, SizeLike, run_options
from diagnostics.studies.location import BACKGROUND_CLASSES, patch_places
from diagnostics.studies.planting import planted_scores
from diagnostics.studies.scoring import Detectors, fit_detectors, score_images
from diagnostics.studies.thresholds import THRESHOLDS, Thresholds, threshold_table


class CompareKeywords(TypedDict, total=False):
    """Options of the run as keywords; `layers` is a parameter by itself."""

    size: SizeLike | None
    batch: int
    progress: bool


def compare(
    backbone: Backbone,
    images: Any,
    detectors: Detectors,
    layers: Sequence[int] | None = None,
    thresholds: Thresholds = THRESHOLDS,
    labels: Any = None,
    planted: Sequence[int] | None = None,
    *,
    clustered: bool = False,
    background: Collection[int] = BACKGROUND_CLASSES,
    ignore: Collection[int] = IGNORE,
    seed: int = 0,
    options: RunOptions | None = None,
    **keywords: Unpack[CompareKeywords],
) -> pd.DataFrame:
    """What each detector marks at each layer and threshold: a row for each, see `threshold_table`.

    `labels`, a folder of label maps or one array an image, add where the marked tokens sit: the share on labeled
    `background` beside its base rate, local contrast, distance to the border. `planted` counts of outliers put into
    every image at the first of `layers` give further rows with `precision`, `recall` and `f1` against the known
    places; the column `planted` is 0 in the rows of the images as they are. One forward pass an image serves all
    rows of a count, and labels need none.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    detectors : str, Detector, or list of them
        Specs such as `"lof:neighbors=10"`, or detectors.
    layers : list of int, or None
        Layers 1…L or negative; None takes those of `options`, all by default.
    thresholds : int, list of float, or dict
        How many thresholds of a sweep; or the thresholds themselves, for all detectors or by spec.
    labels : path, list of int arrays (H, W), or None
        Folder of label maps named as the images, or the maps.
    planted : list of int, or None
        How many outliers are planted, for further rows.
    clustered : bool
        Outliers side by side, or scattered.
    background : set of int
        Labels that count as background.
    ignore : set of int
        Labels that take part in nothing.
    seed : int
        Chooses the random places.
    options, **keywords
        Options of the run: `size`, `batch`, `progress`, and `layers` where they are not given above; see RunOptions.

    Returns
    -------
    pandas.DataFrame
        As `ao.threshold_table`, with columns `planted` and `clustered`.

    Raises
    ------
    ValueError
        For parts and layers that do not fit, and if no image can be read.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> table = ao.compare(backbone, scenes, ["norm"], [-1], thresholds=3)
    >>> len(table)  # three thresholds, and the detector's own
    4
    """
    asked: dict[str, Any] = {**keywords} if layers is None else {**keywords, "layers": layers}
    options = run_options("compare", options, asked, uses=("layers", "size", "batch", "progress"))
    fitted = fit_detectors(backbone, images, detectors, layers=options.layers, size=options.size)
    natural = score_images(backbone, images, detectors, fitted=fitted, options=options)
    places = None
    if labels is not None:
        places = patch_places(
            natural, images, patch_size=backbone.patch_size, labels=labels, background=background, ignore=ignore
        )
    tables = [threshold_table(natural, thresholds=thresholds, places=places).assign(planted=0, clustered=False)]
    for plant, scores in planted_scores(
        backbone, images, detectors, planted or (), clustered=clustered, seed=seed, fitted=fitted, options=options
    ):
        table = threshold_table(scores, thresholds=thresholds, truth=scores["planted"], places=places)
        tables.append(table.assign(planted=plant.count, clustered=plant.clustered))
    return pd.concat(tables, ignore_index=True)
