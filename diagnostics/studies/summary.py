"""A run as a short table: one row a layer, the numbers that show where outliers begin."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

# Images read at once while a large run is summed up. Our choice.
AT_ONCE = 64


def layer_table(dataset: xr.Dataset) -> pd.DataFrame:
    """One row a layer, of the variables that the run has: norms, entropies, AUC, tokens above 3 x the median.

    Norms: median over images of each image's median, and the largest of all. Other columns: means over images.
    Images are read a few at a time, so a run of any length can be summed up.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run of `ao.probe`, or a stored one.

    Returns
    -------
    pandas.DataFrame
        Layer as index; a column for each thing that was measured.

    Raises
    ------
    ValueError
        If nothing was measured yet.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> table = ao.layer_table(ao.probe(backbone, scenes, measures=["norms"]))
    >>> list(table.index) == list(range(1, 13))
    True
    """
    if not dataset.sizes["image"]:
        raise ValueError("the run has no measured images yet; let `probe` resume, and then sum it up.")
    columns: dict[str, np.ndarray] = {}
    if "norm" in dataset:
        columns["median norm"], columns["maximal norm"] = _norm_columns(dataset["norm"])
    if "norm_outliers" in dataset:
        columns[_outliers_label(dataset["norm_outliers"])] = _mean(dataset["norm_outliers"])
    if "entropy" in dataset:
        for stream, label in {"block_in": "X_res", "attn_out": "X_attn", "block_sum": "X_sum"}.items():
            columns[f"entropy {label}"] = _mean(dataset["entropy"].sel(stream=stream))
    if "auc" in dataset:
        columns["AUC"] = _mean(dataset["auc"])
    if "auc_pooled" in dataset:
        columns["AUC pooled"] = dataset["auc_pooled"].values
    if "top_channel" in dataset:
        columns["top channel"] = _most_frequent(dataset["top_channel"].isel(rank=0))
    return pd.DataFrame(columns, index=pd.Index(dataset["layer"].values, name="layer"))


def first_outlier_layer(dataset: xr.Dataset, *, ratio: float = 3.0) -> int | None:
    """The layer at which outliers begin: the first where, in half the images, a patch stands far above the others.

    Parameters
    ----------
    dataset
        A run of `probe`, with the measure `norms` (variable `norm_ratio`, dims image and layer).
    ratio
        Above how many times the image's median patch norm a patch counts; 3 is our choice.

    Returns
    -------
    int or None
        The first measured layer (1…L) whose largest over median patch norm, median over images, is above `ratio`.
        None where there is none: the model is clean, or outliers begin after the layers that were measured.

    Raises
    ------
    ValueError
        For a run without `norm_ratio`, or without images.

    Source
    ------
    Ours; outliers as tokens of high norm: Darcet et al. 2024, arXiv:2309.16588.

    Examples
    --------
    >>> import numpy as np, attention_outliers as ao
    >>> image = np.full((64, 64, 3), 128, np.uint8)
    >>> run = ao.probe(ao.load_backbone("tiny"), image, measures=["norms"])
    >>> print(ao.first_outlier_layer(run))
    None
    """
    if "norm_ratio" not in dataset:
        raise ValueError("the run should have `norm_ratio`; probe with the measure `norms`.")
    if not dataset.sizes["image"]:
        raise ValueError("the run has no measured images yet; let `probe` resume, and then ask again.")
    median = dataset["norm_ratio"].median("image").transpose("layer").values
    above = dataset["layer"].values[median > ratio]
    return int(above.min()) if above.size else None


def _outliers_label(outliers: xr.DataArray) -> str:
    """`tokens > 3 x median`, with the ratio that the run was measured with."""
    limit = re.search(r"\S+ x median", outliers.attrs.get("long_name", ""))
    return f"tokens > {limit.group()}" if limit else "outlying tokens"


def _mean(values: xr.DataArray) -> np.ndarray:
    return values.mean("image", skipna=True).values


def _most_frequent(values: xr.DataArray) -> np.ndarray:
    array = values.transpose("layer", "image").values
    # A negative number is that of no channel: the image had NaN.
    return np.array([np.bincount(row[row >= 0].astype(int)).argmax() if (row >= 0).any() else -1 for row in array])


def _norm_columns(norm: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    medians, maxima = [], []
    for images in _image_blocks(norm):
        flat = images.transpose("image", "layer", "row", "col").values.reshape(
            images.sizes["image"], images.sizes["layer"], -1
        )
        medians.append(np.nanmedian(flat, axis=-1))
        maxima.append(np.nanmax(flat, axis=-1))
    return np.median(np.concatenate(medians), axis=0), np.concatenate(maxima).max(axis=0)


def _image_blocks(values: xr.DataArray) -> Iterator[xr.DataArray]:
    for start in range(0, values.sizes["image"], AT_ONCE):
        yield values.isel(image=slice(start, start + AT_ONCE))
