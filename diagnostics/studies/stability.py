"""Do detectors mark the same tokens once the image is shifted, flipped, shown at another size, or saved as JPEG?"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image
from scipy.stats import spearmanr

from diagnostics.backbones.base import Backbone
from diagnostics.images import ImageError, as_image, resize
from diagnostics.images.feed import ListedImage, list_images, progress_bar
from diagnostics.images.label_maps import resize_labels
from diagnostics.layout import Grid, grid_of, padding_to_patches
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.registry import unknown_name
from diagnostics.studies.scoring import Detectors, Fitted, fit_detectors, score_images

CHANGES = ("shift", "flip", "size", "jpeg")
# Rows and columns of patches that the other size has more; small against 14 x 14, so that details stay. Our choice.
MORE_PATCHES = 4
# Images whose versions are scored in one call, so that memory does not grow with their number. Our choice.
IMAGES_AT_ONCE = 32
# Pillow's scale from 1 to 95; 50 leaves blocks and ringing that the eye sees only on a second look. Our choice.
JPEG_QUALITY = 50


@dataclass
class _Overlap:
    """How far marks and scores of one detector, layer and change overlap, summed over the images."""

    images: int = 0
    before: int = 0
    after: int = 0
    common: int = 0
    union: int = 0
    common_on_grid: int = 0
    union_on_grid: int = 0
    common_by_chance: float = 0.0
    ranks: list[float] = field(default_factory=list)

    def add(
        self,
        marks: tuple[np.ndarray, np.ndarray],
        scores: tuple[np.ndarray, np.ndarray],
        grid: tuple[np.ndarray, np.ndarray] | None,
    ) -> None:
        """One image: maps of the same shape before and after, and marks as they lie on a grid of the same shape."""
        self.images += 1
        self.before += int(marks[0].sum())
        self.after += int(marks[1].sum())
        self.common += int((marks[0] & marks[1]).sum())
        self.union += int((marks[0] | marks[1]).sum())
        # Of two random sets of a and b among n patches a·b/n are in both, on average.
        self.common_by_chance += float(marks[0].sum() * marks[1].sum() / max(1, marks[0].size))
        if grid is not None:
            self.common_on_grid += int((grid[0] & grid[1]).sum())
            self.union_on_grid += int((grid[0] | grid[1]).sum())
        known = ~(np.isnan(scores[0]) | np.isnan(scores[1]))
        first, second = scores[0][known], scores[1][known]
        # Ranks of scores that are all equal mean nothing.
        if min(len(np.unique(first)), len(np.unique(second))) > 1:
            self.ranks.append(float(spearmanr(first, second).statistic))

    def chance(self) -> float:
        """The Jaccard of random sets of as many patches, as the ratio of the expected sums; nan for empty ones."""
        either = self.before + self.after - self.common_by_chance
        return self.common_by_chance / either if either else np.nan

    def row(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "tokens_before": self.before / self.images,
            "tokens_after": self.after / self.images,
            "jaccard": self.common / self.union if self.union else np.nan,
            "jaccard_chance": self.chance(),
            "jaccard_grid": self.common_on_grid / self.union_on_grid if self.union_on_grid else np.nan,
            "spearman": float(np.mean(self.ranks)) if self.ranks else np.nan,
        }


def stability_table(
    backbone: Backbone,
    images: Any,
    detectors: Detectors,
    *,
    changes: Sequence[str] = CHANGES,
    fitted: Fitted | None = None,
    more_patches: int = MORE_PATCHES,
    quality: int = JPEG_QUALITY,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> pd.DataFrame:
    """Are the same tokens marked after a change of the image? A row for each detector, layer and change.

    Changes are of the image as shown: `shift` moves it by one patch to the right, `flip` mirrors it left to right,
    `size` shows it with `more_patches` more rows and columns, `jpeg` writes and reads it as JPEG of that `quality`.
    Maps after the change are laid back on those before it, and compared where both have a patch: `compared`.

    Columns: `images` that could be read; `tokens_before` and `tokens_after`, marked among the patches compared, mean
    of an image; `jaccard`, common over all marked tokens of all images, nan where neither marks any;
    `jaccard_chance`, that of as many random patches of each image, about m / (2 - m) for a share m; `jaccard_grid`,
    `jaccard` with maps left where they are, nan after `size`, which has another grid; `spearman`, rank correlation of
    scores within an image, mean over images, nan where scores are all equal.
    So after `shift` and `flip`, outliers that move with the content have a high `jaccard`, and those that keep to
    places of the grid, such as its corners, a high `jaccard_grid`; either says little where `jaccard_chance` is high.
    After `size` a single marked token may fall between the patches compared: at 14 x 14 patches and 4 more, two in five
    do.

    Images whose size is no whole number of patches are given the backbone's mean color around them beforehand, so
    that every change moves whole patches. One forward pass for each image and each change serves all detectors and
    layers. Detectors that learn do so once, on the first images before any change, or are those of `fitted`.

    Options of the run: `layers`, `size`, `batch`, `progress`.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    detectors : str, Detector, or list of them
        Specs such as `"lof:neighbors=10"`, or detectors.
    changes : list of str
        Of `shift`, `flip`, `size`, `jpeg`.
    fitted : dict or None
        Detectors that have learned already, from `ao.fit_detectors`; None lets them learn on the first images.
    more_patches : int
        Further rows and columns of `size`.
    quality : int
        Of `jpeg`, 1 to 95.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of `ao.RunOptions`, which go over `options`: `size`, `batch`, `layers`, `strict`, `progress` …, as
        far as they apply.

    Returns
    -------
    pandas.DataFrame
        A row for each detector, layer and change.

    Raises
    ------
    ValueError
        For parts and layers that do not fit, and if no image can be read.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> table = ao.stability_table(backbone, scenes, ["norm"], layers=[-1], changes=["flip"])
    >>> list(table["change"])
    ['flip']
    """
    options = run_options("stability_table", options, keywords, uses=("layers", "size", "batch", "progress"))
    chosen = _checked_changes(changes, more_patches, quality)
    listed = list_images(images, options.size_for(backbone.native_size), strict=False)
    listed = [image for image in listed if not image.reason]
    if fitted is None:
        fitted = fit_detectors(backbone, listed, detectors, layers=options.layers, size=options.size)
    native = options.changed(size="native", progress=False)
    overlaps: dict[tuple[str, int, str], _Overlap] = {}
    with progress_bar(f"stability {backbone.spec}", len(listed), shown=options.progress) as bar:
        for start in range(0, len(listed), IMAGES_AT_ONCE):
            block = listed[start : start + IMAGES_AT_ONCE]
            versions = list(_versions(block, chosen, backbone, more_patches=more_patches, quality=quality))
            ordered = [version for change in (None, *chosen) for made_by, version in versions if made_by == change]
            if ordered:
                scores = score_images(backbone, ordered, detectors, fitted=fitted, options=native)
                _add_overlaps(scores, chosen, overlaps)
            bar.update(len(block))
    if not overlaps:
        raise ValueError(f"none of the {len(listed)} images could be opened whole; fetch or export them again.")
    keys = [(spec, layer, change) for spec, layer, _ in overlaps for change in chosen]
    return pd.DataFrame(
        [
            {"detector": spec, "layer": layer, "change": change} | overlaps[spec, layer, change].row()
            for spec, layer, change in dict.fromkeys(keys)
        ]
    )


def _checked_changes(changes: Sequence[str], more_patches: int, quality: int) -> list[str]:
    """The changes, each once; ValueError for what is no change, or a setting of one that is out of range."""
    chosen = list(dict.fromkeys([changes] if isinstance(changes, str) else changes))
    for change in chosen:
        if change not in CHANGES:
            raise unknown_name("change", str(change), CHANGES)
    if not chosen:
        raise ValueError(f"`changes` should name at least one change; known: {', '.join(CHANGES)}.")
    if isinstance(more_patches, bool) or not isinstance(more_patches, int) or more_patches < 1:
        raise ValueError(f"`more_patches` should be a whole number of at least 1; got {more_patches!r}.")
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 95:
        raise ValueError(f"`quality` should be a whole number from 1 to 95, Pillow's scale; got {quality!r}.")
    return chosen


def _versions(
    block: Sequence[ListedImage], changes: Sequence[str], backbone: Backbone, *, more_patches: int, quality: int
) -> Iterator[tuple[str | None, ListedImage]]:
    """Every image as shown (None) and after each change; what can't be opened is left out with all its versions."""
    color = _mean_color(backbone)
    for image in block:
        try:
            opened = as_image(image.source)
        except ImageError:
            continue
        yield None, ListedImage(image.name, whole_patches(opened, image.size, backbone.patch_size, color))
        for change in changes:
            version = changed(
                opened,
                change,
                image.size,
                backbone.patch_size,
                color=color,
                more_patches=more_patches,
                quality=quality,
            )
            yield change, ListedImage(f"{image.name} after {change}", version)


def _add_overlaps(scored: xr.Dataset, changes: Sequence[str], overlaps: dict[tuple[str, int, str], _Overlap]) -> None:
    """Adds a block's images, of which all originals come first, then all of the first change, and so on."""
    count = scored.sizes["image"] // (1 + len(changes))
    inside = scored["inside"].values
    order = ("image", "detector", "layer", "row", "col")
    marked, score = (scored[name].transpose(*order).values for name in ("marked", "score"))

    def of(maps: np.ndarray, version: int, image: int) -> np.ndarray:
        number = version * count + image
        rows, cols = inside[number].any(axis=1).sum(), inside[number].any(axis=0).sum()
        return maps[number, ..., :rows, :cols]

    for place, change in enumerate(changes, start=1):
        for image in range(count):
            before, after = of(marked, 0, image), of(marked, place, image)
            marks = compared(change, before, after)
            scores = compared(change, of(score, 0, image), of(score, place, image))
            for number, spec in enumerate(scored["detector"].values):
                for row, layer in enumerate(scored["layer"].values):
                    overlap = overlaps.setdefault((str(spec), int(layer), change), _Overlap())
                    cell = (number, row)
                    overlap.add(
                        (marks[0][cell], marks[1][cell]),
                        (scores[0][cell], scores[1][cell]),
                        None if change == "size" else (before[cell], after[cell]),
                    )


def compared(change: str, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps before and after a change over the same places of the image: (…, rows, cols) each -> two of one shape.

    `shift` leaves out the column that is only in one of them, `flip` mirrors the map after it back, `size` takes for
    each patch before the one under its center. Empty for a shift of a single column.
    """
    if change not in CHANGES:
        raise unknown_name("change", change, CHANGES)
    if change == "size":
        rows, cols = after.shape[-2:]
        nearest = resize_labels(np.arange(rows * cols).reshape(rows, cols), *before.shape[-2:])
        return before, after.reshape(*after.shape[:-2], -1)[..., nearest]
    if before.shape != after.shape:
        raise ValueError(f"maps before and after `{change}` should have one shape; got {before.shape}, {after.shape}.")
    if change == "shift":
        return before[..., :-1], after[..., 1:]
    return before, after[..., ::-1] if change == "flip" else after


def changed(
    image: Image.Image,
    change: str,
    size: tuple[int, int],
    patch_size: tuple[int, int],
    *,
    color: tuple[int, int, int],
    more_patches: int = MORE_PATCHES,
    quality: int = JPEG_QUALITY,
) -> Image.Image:
    """The image as it is shown after a change, in whole patches; `size` is (height, width) as shown before it.

    A shifted image loses its last column of patches, and its first is filled with the mirror image of the one that
    was there (our choice: no edge comes up that the image does not have).
    """
    if change not in CHANGES:
        raise unknown_name("change", change, CHANGES)
    if change == "size":
        grid = grid_of(size, patch_size)
        larger = Grid(grid.rows + more_patches, grid.cols + more_patches)
        height, width = (round(side * new / old) for side, new, old in zip(size, larger, grid, strict=True))
        # From the image itself, not from the smaller one: as a run at the other size shows it.
        return _on_canvas(resize(image, height, width), larger, patch_size, color)
    shown = whole_patches(image, size, patch_size, color)
    if change == "shift":
        pixels, step = np.asarray(shown), patch_size[1]
        return Image.fromarray(np.concatenate([pixels[:, :step][:, ::-1], pixels[:, :-step]], axis=1))
    if change == "flip":
        return shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    written = io.BytesIO()
    shown.save(written, format="JPEG", quality=quality)
    return as_image(Image.open(written))


def whole_patches(
    image: Image.Image, size: tuple[int, int], patch_size: tuple[int, int], color: tuple[int, int, int]
) -> Image.Image:
    """The image at (height, width) with `color` around it up to whole patches, placed as `pad_to_patches` does."""
    return _on_canvas(resize(image, *size), grid_of(size, patch_size), patch_size, color)


def _on_canvas(image: Image.Image, grid: Grid, patch_size: tuple[int, int], color: tuple[int, int, int]) -> Image.Image:
    """The image in the middle of a grid of patches; an odd pixel goes to the bottom or right."""
    height, width = grid.rows * patch_size[0], grid.cols * patch_size[1]
    around = padding_to_patches((image.height, image.width), (height, width))
    if not any(around):
        return image
    canvas = Image.new("RGB", (width, height), color)
    canvas.paste(image, (around.left, around.top))
    return canvas


def _mean_color(backbone: Backbone) -> tuple[int, int, int]:
    """What padding with 0 after normalization looks like, to the nearest of 256 steps."""
    red, green, blue = (round(255 * value) for value in backbone.mean)
    return red, green, blue
