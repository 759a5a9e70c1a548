"""What a detector's threshold costs or brings: label maps and features of a method that purifies what it marks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from diagnostics.backbones.base import Backbone
from diagnostics.images import load_image
from diagnostics.images.label_maps import patch_labels_at
from diagnostics.measures.auc import pair_auc
from diagnostics.registry import spec_name
from segment.datasets.base import Dataset
from segment.encoders.encode_many import encode_many
from segment.evaluation.score_methods import score_methods
from segment.method import TextFeatures

UNTOUCHED = np.inf  # the threshold that nothing exceeds: the method as it is


def threshold_cost(
    backbone: Backbone,
    dataset: Dataset,
    detector: str,
    thresholds: Sequence[float],
    *,
    method: str = "clearclip",
    purifier: str = "neighbor-mean",
    text: TextFeatures | None = None,
    **options: Any,
) -> pd.DataFrame:
    """A method at each threshold of its detector: `threshold` as index, ascending, the last one inf, nothing purified.

    `tokens`: patches marked in an image, mean; `mIoU` of the label maps, with its 95 % interval `low` and `high`;
    `AUC` of «same class» by cosine of the method's features, mean of the images that have one. All in [0, 1] but
    `tokens`, which is nan for a method that does not tell what it purified. `detector`: a spec without its threshold;
    `method`: a spec that leaves detector and purifier open. `options` as those of `score_methods`.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    dataset : Dataset
        Labeled images, such as `ao.Shapes(scenes=4)`.
    detector : str
        Spec without its threshold.
    thresholds : list of float
        In the detector's own unit.
    method : str
        Spec that leaves detector and purifier open.
    purifier : str
        Spec of the purifier.
    text : TextFeatures or None
        The words; None takes the names of the data set.
    **options
        As for `ao.score_methods`.

    Returns
    -------
    pandas.DataFrame
        `tokens`, `mIoU`, `low`, `high` and `AUC` by threshold.

    Raises
    ------
    ValueError
        For parts that do not fit.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> cost = ao.threshold_cost(ao.load_backbone("tiny"), ao.Shapes(scenes=2), "relative-norm", [1.1, 3.0])
    >>> list(cost.index)
    [1.1, 3.0, inf]
    """
    ascending = sorted({float(threshold) for threshold in thresholds})
    if not ascending or not np.isfinite(ascending).all():
        raise ValueError(f"`thresholds` should be finite numbers, at least one; got {list(thresholds)}.")
    join = "," if ":" in method else ":"
    name, _, rest = detector.partition(":")
    if spec_name(detector) != name or "threshold=" in rest:
        raise ValueError(f"`detector` should be a spec name:field=value without a threshold; got `{detector}`.")
    settings = f"{rest}," if rest else ""
    specs = {
        threshold: f"{method}{join}detector={name}({settings}threshold={threshold!r}),purifier={purifier}"
        for threshold in ascending
    } | {UNTOUCHED: f"{method}{join}purifier=keep"}
    scores = score_methods(backbone, dataset, list(specs.values()), text=text, **options).table()
    tokens, areas = _features(backbone, dataset, list(specs.values()), options.get("limit"))
    return pd.DataFrame(
        {
            "tokens": np.append(tokens[:-1], 0.0),
            **{column: scores.loc[list(specs.values()), column].to_numpy() for column in ("mIoU", "low", "high")},
            "AUC": areas,
        },
        index=pd.Index(list(specs), name="threshold"),
    )


def _features(
    backbone: Backbone, dataset: Dataset, specs: list[str], limit: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Marked patches, and the AUC of the features, of each method: means over the images, at its size."""
    count = len(dataset) if limit is None else min(limit, len(dataset))
    tokens, areas = np.full((count, len(specs)), np.nan), np.full((count, len(specs)), np.nan)
    ignore = () if dataset.ignore is None else (dataset.ignore,)
    for number in range(count):
        sample = dataset[number]
        image = load_image(sample.image, size=backbone.native_size, mean=backbone.mean, std=backbone.std)[None]
        image = image.to(backbone.device)
        height, width = image.shape[-2:]
        size = int(height), int(width)
        known = patch_labels_at(sample.labels, size, backbone.patch_size, ignore=ignore).to(backbone.device)
        for place, encoding in enumerate(encode_many(backbone, image, specs)):
            areas[number, place] = float(pair_auc(encoding.patches.float(), known))
            if "outliers" in encoding.extras:
                tokens[number, place] = float(encoding.extras["outliers"].sum())
    return tokens.mean(axis=0), np.nanmean(areas, axis=0) if np.isfinite(areas).any() else areas.mean(axis=0)
