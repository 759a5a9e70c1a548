"""Where marked tokens sit in the picture: on background, on flat or busy patches, at the border."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from diagnostics.feed import Loader, label_source, list_pictures
from diagnostics.images import parse_size
from diagnostics.labels import IGNORE
from diagnostics.layout import Grid, grid_of, pad_to_patches
from diagnostics.measures.base import UNLABELLED

# The class that is no object. Source: 0 is PASCAL VOC's background.
BACKGROUND_CLASSES = (0,)
# Red, green, blue of a grey value. Source: ITU-R BT.601, as Pillow's mode L.
GREY = (0.299, 0.587, 0.114)


def whereabouts_table(
    scores: xr.Dataset,
    pictures: Any,
    *,
    patch_size: tuple[int, int],
    labels: Any = None,
    background: Collection[int] = BACKGROUND_CLASSES,
    ignore: Collection[int] = IGNORE,
) -> pd.DataFrame:
    """Where the marked tokens of `score_pictures` sit, against all tokens: a row for each detector and layer.

    `pictures` are those that were scored, in files or arrays, and are shown again as `scores` says. `labels` is a
    folder of label maps or one array a picture; a patch has the label that most of its pixels have.

    Columns, each a mean over marked tokens, and over all where it ends in `_all`, of all pictures together:
    `tokens`, how many are marked, and `tokens_all`, of how many; `contrast`, `patch_contrast` of the picture as shown;
    `border`, `border_distance`. With labels also `labelled`, how many marked tokens have a label, and `background`,
    the share of those on classes of `background`, with `labelled_all` and `background_all`, the base rate. Patches won
    by `ignore` and pictures without a label map count in neither. nan where no token counts.
    """
    for name in ("marked", "inside"):
        if name not in scores:
            raise ValueError(
                f"`scores` should have `{name}`; it has {', '.join(map(str, scores.data_vars)) or 'nothing'}. "
                "Make it with diagnostics.compare.score_pictures."
            )
    if "size" not in scores.attrs:
        raise ValueError("`scores.attrs` should say in `size` how pictures were shown, such as `224` or `short:336`.")
    listed = list_pictures(pictures, parse_size(str(scores.attrs["size"])), strict=False)
    numbers = {picture.name: number for number, picture in enumerate(listed)}
    missing = [str(name) for name in scores["image"].values if str(name) not in numbers]
    if missing:
        raise ValueError(
            f"`pictures` should be those that were scored; {len(missing)} are not among them, the first `{missing[0]}`"
            f" (there are {', '.join(list(numbers)[:3])}…). Give the same files and folders again."
        )
    # Mean 0 and spread 1: pixels stay in [0, 1].
    loader = Loader(
        listed, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), patch_size, labels=label_source(labels, listed), ignore=ignore
    )
    marked = scores["marked"].transpose("image", "detector", "layer", "row", "col").values
    inside = scores["inside"].transpose("image", "row", "col").values
    # detector, layer, what is counted; the last row and column of `everything` are those of all tokens.
    sums = np.zeros((*marked.shape[1:3], 5))
    everything = np.zeros(5)
    for place, name in enumerate(scores["image"].values):
        loaded = loader(numbers[str(name)])
        if loaded.image is None:
            raise ValueError(f"the picture `{name}` was scored, but can't be read any more: {loaded.reason}")
        grid = grid_of((loaded.image.shape[-2], loaded.image.shape[-1]), patch_size)
        scored = Grid(int(inside[place].any(axis=1).sum()), int(inside[place].any(axis=0).sum()))
        if grid != scored:
            raise ValueError(
                f"the picture `{name}` has {grid.rows}x{grid.cols} patches of {patch_size} pixels, but was scored with "
                f"{scored.rows}x{scored.cols}. Give the pictures and the patch size of the scores."
            )
        classes = np.full(grid, UNLABELLED) if loaded.labels is None else loaded.labels.reshape(tuple(grid)).numpy()
        labelled = classes != UNLABELLED
        properties = np.stack(
            [
                np.ones(grid),
                patch_contrast(loaded.image, patch_size),
                border_distance(grid),
                labelled,
                labelled & np.isin(classes, list(background)),
            ]
        )
        sums += np.einsum("dlrc,prc->dlp", marked[place, ..., : grid.rows, : grid.cols].astype(float), properties)
        everything += properties.sum(axis=(1, 2))
    rows = []
    for number, spec in enumerate(scores["detector"].values):
        for at, layer in enumerate(scores["layer"].values):
            row: dict[str, Any] = {"detector": str(spec), "layer": int(layer)}
            row |= _means(sums[number, at], "", labelled=labels is not None)
            row |= _means(everything, "_all", labelled=labels is not None)
            rows.append(row)
    names = ["tokens", "contrast", "border", *(["labelled", "background"] if labels is not None else [])]
    return pd.DataFrame(rows, columns=["detector", "layer", *(name + end for name in names for end in ("", "_all"))])


def _means(sums: np.ndarray, end: str, *, labelled: bool) -> dict[str, float]:
    """Counts, and sums over counts: nan where nothing was counted."""
    tokens, contrast, border, with_label, on_background = (float(value) for value in sums)
    row = {
        f"tokens{end}": int(tokens),
        f"contrast{end}": contrast / tokens if tokens else np.nan,
        f"border{end}": border / tokens if tokens else np.nan,
    }
    if labelled:
        row[f"labelled{end}"] = int(with_label)
        row[f"background{end}"] = on_background / with_label if with_label else np.nan
    return row


def patch_contrast(image: Tensor, patch_size: tuple[int, int]) -> np.ndarray:
    """Standard deviation of the grey pixels in each patch: (3, h, w) in [0, 1] -> (rows, cols) in [0, 0.5].

    The unit is black to white. Pixels of the padding to whole patches do not count.
    """
    grey = torch.einsum("chw,c->hw", image.double(), torch.tensor(GREY, dtype=torch.double))
    padded = pad_to_patches(grey, patch_size, value=torch.nan)
    pixels = padded.unflatten(1, (-1, patch_size[1])).unflatten(0, (-1, patch_size[0]))
    return np.nanstd(pixels.numpy(), axis=(1, 3))


def border_distance(grid: Grid) -> np.ndarray:
    """Patches between each patch and the nearest border: (rows, cols), 0 at the border."""
    rows, cols = np.arange(grid.rows), np.arange(grid.cols)
    vertical, horizontal = np.minimum(rows, rows[::-1]), np.minimum(cols, cols[::-1])
    return np.minimum(vertical[:, None], horizontal[None, :])
