"""One image of a data set, and the pixels that go with it."""

from __future__ import annotations

import numpy as np
import xarray as xr

from diagnostics.registry import unknown_name


def image_names(dataset: xr.Dataset) -> list[str]:
    """The names of the images, in order."""
    return [str(name) for name in dataset["image"].values] if "image" in dataset.dims else []


def one_image(dataset: xr.Dataset, image: str | None = None) -> tuple[str, xr.Dataset]:
    """The name and the measurements of one image, the first if none is named, without the padding of its grid.

    Images of several sizes share one data set by padding their grids; the coordinates `rows` and `cols` tell the
    true size. An unknown name raises ValueError with the near one.
    """
    names = image_names(dataset)
    if not names:
        raise ValueError(f"a map should get a data set with an `image` dim; this one has {tuple(dataset.dims)}.")
    name = names[0] if image is None else str(image)
    if name not in names:
        raise unknown_name("image", name, names)
    part = dataset.isel(image=names.index(name))
    true_size = {dim: int(part[size]) for dim, size in (("row", "rows"), ("col", "cols")) if size in part.coords}
    return name, part.isel({dim: slice(size) for dim, size in true_size.items() if dim in part.dims})


def as_rgb(image: np.ndarray) -> np.ndarray:
    """An image as float32 (h, w, 3) in [0, 1], from numbers in [0, 1] or from uint8."""
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[-1] != 3 or not pixels.size:
        raise ValueError(
            f"`image` should be (h, w, 3); got {pixels.shape}. Bring colors last: tensor.permute(1, 2, 0)."
        )
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / 255
    if not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"`image` should be floating point in [0, 1] or uint8; got {pixels.dtype}.")
    low, high = float(np.nanmin(pixels)), float(np.nanmax(pixels))
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(f"`image` should lie in [0, 1]; got {low:g}…{high:g}. Undo the normalization first.")
    return np.clip(pixels.astype(np.float32), 0, 1)
