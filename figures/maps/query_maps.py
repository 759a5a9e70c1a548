"""What chosen patches look at and resemble, over layers; and whole attention maps, where the stripes are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from figures.maps.layer_maps import maps_over_layers
from figures.text import present

QUERY_MAPS = ("query_attention", "query_attention_mean", "patch_similarity")
MATRICES = ("attention", "attention_mean")


def query_maps(
    dataset: xr.Dataset,
    image: str | None = None,
    *,
    pixels: np.ndarray | None = None,
    layers: Sequence[int] | None = None,
    title: str = "",
) -> Figure:
    """One image's maps of chosen patches: a row for each measurement and query patch, a column for each layer.

    Of `query_attention` (mean over heads), `query_attention_mean` and `patch_similarity`, those that there are.
    """
    rows = {}
    for name in present(dataset, QUERY_MAPS, figure="query maps"):
        for place, query in enumerate(dataset["query"].values):
            row = dataset[name].isel(query=place, drop=True)
            long_name = f"{row.attrs.get('long_name', name)}: patch {int(query)}"
            rows[f"{name}_{int(query)}"] = row.assign_attrs(long_name=long_name)
    shown = xr.Dataset(rows, coords={name: dataset[name] for name in ("rows", "cols") if name in dataset.coords})
    return maps_over_layers(shown, image, pixels=pixels, variables=list(rows), layers=layers, title=title)


def attention_matrices(
    dataset: xr.Dataset, image: str | None = None, *, layers: Sequence[int] | None = None, title: str = ""
) -> Figure:
    """One image's whole attention maps over layers, mean over heads: rows look at columns, prefix tokens first.

    A bright column is a token that everybody looks at. Source: CLIPtrase Fig 2, SFP supplement Fig 1 a.
    """
    names = present(dataset, MATRICES, figure="attention matrices")
    # Tokens as rows and columns of a map; the grid of the patches says nothing about them.
    shown = dataset[names].reset_coords(drop=True).rename(token="row", key_token="col")
    return maps_over_layers(shown, image, variables=names, layers=layers, title=title)
