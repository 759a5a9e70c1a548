"""Where marked tokens sit in the image: on background, on flat or busy patches, at the border."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from diagnostics.images import parse_size
from diagnostics.images.feed import ListedImage, Loader, label_source, list_images
from diagnostics.images.label_maps import IGNORE
from diagnostics.layout import Grid, grid_of, pad_to_patches
from diagnostics.measures.base import UNLABELED

# The class that is no object. Source: 0 is PASCAL VOC's background.
BACKGROUND_CLASSES = (0,)
# Red, green, blue of a gray value. Source: ITU-R BT.601, as Pillow's mode L.
GRAY = (0.299, 0.587, 0.114)


def patch_places(
    scores: xr.Dataset,
    images: Any,
    *,
    patch_size: tuple[int, int],
    labels: Any = None,
    background: Collection[int] = BACKGROUND_CLASSES,
    ignore: Collection[int] = IGNORE,
) -> xr.Dataset:
    """What is known of the location of every patch of `score_images`, dims image, row, col; no forward pass is made.

    `contrast`, `patch_contrast` of the image as shown; `border`, `border_distance`; nan outside the image. With
    `labels`, a folder of label maps or one array an image, also `labeled` (bool) and `background` (bool), whether
    most pixels of the patch are of a class of `background`. Patches won by `ignore` and those of images without a
    label map are not labeled; attribute `not_labeled` has name and reason of the latter.

    `images` are those that were scored, in files or arrays, and are opened again and shown as `scores` says.

    Parameters
    ----------
    scores : xarray.Dataset
        What `ao.score_images` gives: `score` and `marked` with dims detector, image, layer, row, col.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    patch_size : (int, int)
        Height and width of a patch, in pixels: `backbone.patch_size`.
    labels : path, list of int arrays (H, W), or None
        Folder of label maps named as the images, or the maps.
    background : set of int
        Labels that count as background.
    ignore : set of int
        Labels that take part in nothing.

    Returns
    -------
    xarray.Dataset
        `contrast` (standard deviation of the pixels, in [0, 1]) and `border` (patches to the border); with labels
        `labeled` and `background`, bool.

    Raises
    ------
    ValueError
        For images that are not those of the scores.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> places = ao.patch_places(scores, scenes, patch_size=backbone.patch_size)
    >>> int(places["border"].isel(image=0, row=0, col=0))
    0
    """
    listed = _scored_images(scores, images)
    # Mean 0 and spread 1: pixels stay in [0, 1].
    loader = Loader(
        listed, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), patch_size, labels=label_source(labels, listed), ignore=ignore
    )
    inside = scores["inside"].transpose("image", "row", "col").values
    contrast, border = (np.full(inside.shape, np.nan) for _ in range(2))
    labeled, on_background = (np.zeros(inside.shape, bool) for _ in range(2))
    reasons: dict[str, str] = {}
    for place, image in enumerate(listed):
        loaded = loader(place)
        if loaded.image is None:
            raise ValueError(f"the image `{image.name}` was scored, but can't be read any more: {loaded.reason}")
        grid = _scored_grid(image, inside[place], patch_size)
        patches = (place, slice(grid.rows), slice(grid.cols))
        contrast[patches], border[patches] = patch_contrast(loaded.image, patch_size), border_distance(grid)
        if loaded.labels is not None:
            classes = loaded.labels.reshape(tuple(grid)).numpy()
            labeled[patches] = classes != UNLABELED
            on_background[patches] = np.isin(classes, list(background)) & labeled[patches]
            if loaded.reason:
                reasons[image.name] = loaded.reason
    variables = {
        "contrast": (contrast, {"units": "1", "long_name": "standard deviation of the patch's gray pixels"}),
        "border": (border, {"units": "patch", "long_name": "distance to the border"}),
    }
    if labels is not None:
        variables["labeled"] = (labeled, {"units": "1", "long_name": "the patch has a label"})
        variables["background"] = (on_background, {"units": "1", "long_name": "the patch is background"})
    places = xr.Dataset(
        {name: (("image", "row", "col"), values, attrs) for name, (values, attrs) in variables.items()},
        coords={"image": scores["image"].values},
    )
    return places if labels is None else places.assign_attrs(not_labeled=reasons)


def _scored_images(scores: xr.Dataset, images: Any) -> list[ListedImage]:
    """Those of `images` that have scores, in the order of the scores; ValueError where one is missing."""
    for name in ("marked", "inside"):
        if name not in scores:
            raise ValueError(
                f"`scores` should have `{name}`; it has {', '.join(map(str, scores.data_vars)) or 'nothing'}. "
                "Make it with diagnostics.studies.scoring.score_images."
            )
    if "size" not in scores.attrs:
        raise ValueError("`scores.attrs` should say in `size` how images were shown, such as `224` or `short:336`.")
    listed = list_images(images, parse_size(str(scores.attrs["size"])), strict=False)
    by_name = {image.name: image for image in listed}
    names = [str(name) for name in scores["image"].values]
    missing = [name for name in names if name not in by_name]
    if missing:
        raise ValueError(
            f"`images` should be those that were scored; {len(missing)} are not among them, the first `{missing[0]}`"
            f" (there are {', '.join(list(by_name)[:3])}…). Give the same files and folders again."
        )
    return [by_name[name] for name in names]


def _scored_grid(image: ListedImage, inside: np.ndarray, patch_size: tuple[int, int]) -> Grid:
    """The grid of an image, which should be the one that has scores: `inside` (rows, cols) bool."""
    grid = grid_of(image.size, patch_size)
    scored = Grid(int(inside.any(axis=1).sum()), int(inside.any(axis=0).sum()))
    if grid != scored:
        raise ValueError(
            f"the image `{image.name}` has {grid.rows}x{grid.cols} patches of {patch_size} pixels, but was scored with "
            f"{scored.rows}x{scored.cols}. Give the images and the patch size of the scores."
        )
    return grid


def location_table(scores: xr.Dataset, places: xr.Dataset) -> pd.DataFrame:
    """Where the marked tokens of `score_images` sit, against all tokens: a row for each detector and layer.

    `places` is from `patch_places`. Columns: `tokens`, how many are marked, then the means of `where_marked`; and the
    same over all tokens, with `_all` behind the name.

    Parameters
    ----------
    scores : xarray.Dataset
        What `ao.score_images` gives: `score` and `marked` with dims detector, image, layer, row, col.
    places : xarray.Dataset
        What `ao.patch_places` gives.

    Returns
    -------
    pandas.DataFrame
        A row for each detector and layer.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> places = ao.patch_places(scores, scenes, patch_size=backbone.patch_size)
    >>> len(ao.location_table(scores, places))
    2
    """
    marked = scores["marked"].transpose("detector", "layer", "image", "row", "col").values
    inside = scores["inside"].transpose("image", "row", "col").values
    means = {"tokens": marked.sum(axis=(-3, -2, -1)), **where_marked(marked, places)}
    base_rates = {"tokens": inside.sum(), **where_marked(inside, places)}
    columns: dict[str, Any] = {
        "detector": np.repeat([str(spec) for spec in scores["detector"].values], marked.shape[1]),
        "layer": np.tile(scores["layer"].values, marked.shape[0]),
    }
    for name, values in means.items():
        columns |= {name: values.reshape(-1), f"{name}_all": base_rates[name].item()}
    return pd.DataFrame(columns)


def where_marked(marked: np.ndarray, places: xr.Dataset) -> dict[str, np.ndarray]:
    """Means over the marked tokens of all images together: (…, image, row, col) bool -> (…) each.

    `contrast` and `border`; where the places have labels also `labeled`, how many of the marked have one, and
    `background`, the share of those that are background. nan where no token counts.
    """
    flat = marked.reshape(-1, int(np.prod(marked.shape[-3:]))).astype(float)

    def total(name: str) -> np.ndarray:
        values = places[name].transpose("image", "row", "col").values.astype(float).reshape(-1)
        sums: np.ndarray = (flat @ np.nan_to_num(values)).reshape(marked.shape[:-3])
        return sums

    def mean(name: str, count: np.ndarray) -> np.ndarray:
        return np.divide(total(name), count, out=np.full(count.shape, np.nan), where=count > 0)

    tokens = flat.sum(axis=1).reshape(marked.shape[:-3])
    means = {name: mean(name, tokens) for name in ("contrast", "border")}
    if "labeled" in places:
        labeled = total("labeled")
        means |= {"labeled": labeled.astype(int), "background": mean("background", labeled)}
    return means


def patch_contrast(image: Tensor, patch_size: tuple[int, int]) -> np.ndarray:
    """Standard deviation of the gray pixels in each patch: (3, h, w) in [0, 1] -> (rows, cols) in [0, 0.5].

    The unit is black to white. Pixels of the padding to whole patches do not count.
    """
    gray = torch.einsum("chw,c->hw", image.double(), torch.tensor(GRAY, dtype=torch.double))
    padded = pad_to_patches(gray, patch_size, value=torch.nan)
    pixels = padded.unflatten(1, (-1, patch_size[1])).unflatten(0, (-1, patch_size[0]))
    return np.nanstd(pixels.numpy(), axis=(1, 3))


def border_distance(grid: Grid) -> np.ndarray:
    """Patches between each patch and the nearest border: (rows, cols), 0 at the border."""
    rows, cols = np.arange(grid.rows), np.arange(grid.cols)
    vertical, horizontal = np.minimum(rows, rows[::-1]), np.minimum(cols, cols[::-1])
    return np.minimum(vertical[:, None], horizontal[None, :])
