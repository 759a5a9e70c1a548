"""Where the outliers of a profile lie: at the border, in the corners, always in the same place, on background."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import spearmanr

from diagnostics.layout import Grid
from diagnostics.studies.location import border_distance, patch_places, where_marked

DRAWS = 99  # random placings that chance is made of; our choice


def place_facts(marked: xr.DataArray, scores: xr.DataArray, *, seed: int = 0) -> dict[str, Any]:
    """Shares of the marked patches at the border and in the corners, and how often two images share places.

    Against chance: as many patches as each image has marked, anywhere in it. `marked` and `scores` are (image, row,
    col), NaN outside an image. `fixed` is the mean overlap (intersection over union) of the marks of two images of
    one grid, in the order of the images; `fixed_by_chance` and `fixed_p` come from random placings.
    """
    inside, marks = np.isfinite(scores.values), marked.values
    border = np.stack([_border(image) for image in inside])
    corner = np.stack([_corner(image) for image in inside])
    count = max(int(marks.sum()), 1)
    weights = marks.sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
    expected = {
        name: float((places.sum(axis=(1, 2)) * weights).sum() / count)
        for name, places in (("border", border), ("corner", corner))
    }
    generator = np.random.default_rng(seed)
    overlap = _overlap(marks)
    chance = [_overlap(np.stack([_placed(m, i, generator) for m, i in zip(marks, inside, strict=True)]))
              for _ in range(DRAWS)]  # fmt: skip
    known = [value for value in chance if np.isfinite(value)]
    return {
        "border": float((marks & border).sum() / count),
        "border_by_chance": expected["border"],
        "corner": float((marks & corner).sum() / count),
        "corner_by_chance": expected["corner"],
        "fixed": overlap if np.isfinite(overlap) else None,
        "fixed_by_chance": float(np.mean(known)) if known else None,
        "fixed_p": float((1 + sum(value >= overlap for value in known)) / (1 + len(known))) if known else None,
    }


def background_facts(
    kept: xr.Dataset,
    images: Any,
    patch_size: tuple[int, int],
    *,
    labels: Any,
    background: Collection[int],
    ignore: Collection[int],
) -> list[dict[str, Any]]:
    """For each layer with a line: the share of its outliers on background, against that of all patches.

    `correlation` is Spearman's between an image's outliers and its share of background, with its `p`.
    """
    inside = kept["score"].isel(layer=0, drop=True).notnull()
    marked = kept["marked"].expand_dims(detector=["profile"])
    scores = xr.Dataset({"marked": marked, "inside": inside}, attrs={"size": kept.attrs["size"]})
    places = patch_places(scores, images, patch_size=patch_size, labels=labels, background=background, ignore=ignore)
    everywhere = where_marked(np.asarray(inside.transpose("image", "row", "col").values), places)
    labeled = places["labeled"].sum(("row", "col")).values
    share = np.divide(places["background"].sum(("row", "col")).values, labeled, where=labeled > 0,
                      out=np.full(len(labeled), np.nan))  # fmt: skip
    rows = []
    for layer in kept["layer"].values:
        marks = kept["marked"].sel(layer=layer).transpose("image", "row", "col").values
        if not marks.any():
            continue
        counts, known = marks.sum(axis=(1, 2)), np.isfinite(share)
        varied = known.sum() > 2 and np.ptp(counts[known]) > 0 and np.ptp(share[known]) > 0
        correlation = spearmanr(counts[known], share[known]) if varied else None
        rows.append(
            {
                "layer": int(layer),
                "background": _finite(where_marked(marks, places)["background"]),
                "background_of_all": _finite(everywhere["background"]),
                "correlation": None if correlation is None else _finite(correlation.statistic),
                "p": None if correlation is None else _finite(correlation.pvalue),
            }
        )
    return rows


def _border(inside: np.ndarray) -> np.ndarray:
    """The outermost patches of an image in the common grid."""
    return _within(inside, lambda grid: border_distance(grid) == 0)


def _corner(inside: np.ndarray) -> np.ndarray:
    """The patches within a quarter of both sides of a corner."""

    def corners(grid: Grid) -> np.ndarray:
        rows, cols = np.arange(grid.rows), np.arange(grid.cols)
        high = np.minimum(rows, rows[::-1]) < grid.rows / 4
        wide = np.minimum(cols, cols[::-1]) < grid.cols / 4
        return high[:, None] & wide[None, :]

    return _within(inside, corners)


def _within(inside: np.ndarray, places: Any) -> np.ndarray:
    grid = Grid(int(inside.any(axis=1).sum()), int(inside.any(axis=0).sum()))
    result = np.zeros(inside.shape, bool)
    result[: grid.rows, : grid.cols] = places(grid)
    return result


def _placed(marks: np.ndarray, inside: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As many marks anywhere in the image."""
    places = np.flatnonzero(inside)
    placed = np.zeros(marks.shape, bool)
    placed.flat[generator.choice(places, size=int(marks.sum()), replace=False)] = True
    return placed


def _overlap(marks: np.ndarray) -> float:
    """Mean intersection over union of the marks of each image and the next that has some; NaN without two."""
    flat = marks.reshape(len(marks), -1)
    flat = flat[flat.any(axis=1)]
    if len(flat) < 2:
        return np.nan
    shared, either = (flat[:-1] & flat[1:]).sum(axis=1), (flat[:-1] | flat[1:]).sum(axis=1)
    return float((shared / either).mean())


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None
