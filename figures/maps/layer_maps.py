"""What an image's patches show at each layer: maps of norms and attention, and tokens as colors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from figures.curves.layer_axis import chosen_layers, layers_of
from figures.look import FULL
from figures.maps.heatmap import draw_heatmap
from figures.maps.one_image import as_rgb, one_image
from figures.maps.scales import color_scale
from figures.sheet import (
    BAR,
    BAR_TEXT,
    FOOT_LABEL,
    GAP,
    IMAGE_GAP,
    MARGIN,
    Bar,
    Columns,
    Row,
    Tile,
    bare,
    image_size,
    sheet,
    tile_size,
)
from figures.text import label_of, name_of, needs_dims, present

MAPS = ("norm", "class_attention", "received_attention", "self_attention")

# A jump of ten times should look the same in any model, so these have a log scale however far they reach.
ALWAYS_LOG = ("norm",)

# Per cent of the values on either side that may saturate a color of the PCA maps, so that outliers do not take the
# whole range. Our choice.
SATURATED = 2.0

# Layers side by side when none are asked for, and cells side by side in PCA maps.
MOST_LAYERS = 12
PCA_COLUMNS = 6

OVERLAY_ALPHA = 0.6

# Inches.
LARGEST_CELL, SMALLEST_ROW = 1.1, 0.3
NUMBER, WORD = 0.18, 0.5  # least room for «12» and for «layer 12»: narrow maps stand apart
ROW_GAP = 0.07


def draw_map(
    ax: Axes,
    values: np.ndarray,
    *,
    pixels: np.ndarray | None = None,
    log: bool | None = None,
    scale: Normalize | None = None,
) -> AxesImage:
    """One value per patch, (rows, cols), each patch a sharp square; over the image in gray where one is given.

    `scale` is a color scale shared with other maps; without one the map takes its own.
    """
    values = np.asarray(values, dtype=np.float64)
    if pixels is not None:
        rows, cols = values.shape
        gray = as_rgb(pixels).mean(-1)
        extent = (-0.5, cols - 0.5, rows - 0.5, -0.5)
        ax.imshow(gray, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="antialiased")
    alpha = None if pixels is None else OVERLAY_ALPHA
    image = draw_heatmap(ax, values, scale=scale or color_scale(values, log), alpha=alpha)
    bare(ax)
    return image


def maps_over_layers(
    dataset: xr.Dataset,
    image: str | None = None,
    *,
    pixels: np.ndarray | None = None,
    variables: Sequence[str] = MAPS,
    layers: Sequence[int] | None = None,
    overlay: bool = False,
    title: str = "",
) -> Figure:
    """One image's maps: a row for each variable, a column for each layer, the image itself on the left.

    Attention is the mean over heads. A row has one color scale for all its layers, so that they can be compared; it
    is logarithmic for norms and where the values span more than 30 times, and its bar stands on the right. Variables
    that the data set lacks are left out. `image`: the image's name, the first by default. `pixels`: (h, w, 3) in
    [0, 1] or uint8, what the network saw. `layers`: at most 12, evenly spaced, by default. `overlay` lays the maps
    over the image. The title is the image's name by default.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run of `ao.probe`, or a stored one.
    image : str or None
        Name of the image in the run; the first by default.
    pixels : array (H, W, 3), uint8 or in [0, 1], or None
        The image, to be shown beside its maps.
    variables : list of str
        Maps, a row for each, as far as the run has them.
    layers : list of int, or None
        Layers 1…L or negative; None takes some, evenly spaced.
    overlay : bool
        Lay the maps over the image.
    title : str
        Text above the figure; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        If what is drawn was not measured.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> dataset = ao.probe(backbone, scenes)
    >>> type(ao.maps_over_layers(dataset, pixels=scenes[0])).__name__
    'Figure'
    """
    if overlay and pixels is None:
        raise ValueError("`overlay` should come with the `pixels` to lay the maps over; got None.")
    names = present(dataset, variables, figure="maps over layers")
    for name in names:
        needs_dims(dataset[name], "image", "layer", "row", "col", figure="maps over layers")
    shown = chosen_layers(dataset, layers, most=MOST_LAYERS)
    image, part = one_image(dataset[names], image)
    rows = []
    for name in names:
        values = part[name].sel(layer=shown)
        extra = [dim for dim in values.dims if dim not in ("layer", "row", "col")]
        rows.append(values.mean(extra, keep_attrs=True).transpose("layer", "row", "col").compute())
    grid = (part.sizes["row"], part.sizes["col"])
    columns, height = _columns(len(shown), grid, pixels, right=GAP + BAR + BAR_TEXT, least=NUMBER)

    def row(values: xr.DataArray, last: bool) -> Row:
        scale = color_scale(values.values, True if values.name in ALWAYS_LOG else None)
        tiles = [
            Tile(
                draw=partial(draw_map, values=part, pixels=pixels if overlay else None, scale=scale),
                name=f"{values.name} {layer}",
                height=height,
                foot=str(layer) if last else "",
            )
            for part, layer in zip(values.values, shown, strict=True)
        ]
        heading = label_of(values, log=isinstance(scale, LogNorm))
        return Row(tiles=tiles, heading=heading, foot_label="layer" if last else "", bar=Bar(scale, values.values),
                   least=SMALLEST_ROW, space=0.0 if last else ROW_GAP)  # fmt: skip

    drawn = [row(values, values is rows[-1]) for values in rows]
    return sheet(drawn, columns, image=pixels, title=title or image)


def _columns(
    count: int, grid: tuple[int, int], pixels: np.ndarray | None, *, right: float, least: float, labeled: bool = True
) -> tuple[Columns, float]:
    """Columns of maps beside the image, or beside the word «layer», and the height of a map."""
    side = FOOT_LABEL if labeled else 0.0
    taken = image_size(pixels)[0] + (side or IMAGE_GAP) if pixels is not None else side
    width, height = tile_size(FULL - MARGIN - taken - right, count, grid, largest=LARGEST_CELL)
    gap = max(width + GAP, least) - width
    return Columns(count=count, tile=width, slot=width, gap=gap, side=0.0 if pixels is not None else side,
                   right=right), height  # fmt: skip


def pca_colors(components: np.ndarray) -> np.ndarray:
    """The first three components of one layer as colors: (component, rows, cols) -> (rows, cols, 3) in [0, 1].

    Each component is stretched by itself from its 2nd to its 98th percentile; gray stands for a component that is
    not there or does not vary, white for patches without values.
    """
    colors = np.full((*components.shape[1:], 3), 0.5)
    for place, values in enumerate(np.asarray(components[:3], dtype=np.float64)):
        finite = values[np.isfinite(values)]
        if not finite.size:
            continue
        low, high = np.percentile(finite, [SATURATED, 100 - SATURATED])
        if high > low:
            colors[..., place] = np.clip((values - low) / (high - low), 0, 1)
    colors[~np.isfinite(components[:3]).all(0)] = 1.0
    return colors


def pca_maps(
    dataset: xr.Dataset,
    image: str | None = None,
    *,
    pixels: np.ndarray | None = None,
    layers: Sequence[int] | None = None,
    title: str = "",
) -> Figure:
    """One image's tokens as colors: the first three principal components as red, green and blue, layer by layer.

    Patches of like color have like tokens within a layer. Components have no fixed sign or order, so colors do not
    compare between layers. All layers are drawn by default.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run of `ao.probe`, or a stored one.
    image : str or None
        Name of the image in the run; the first by default.
    pixels : array (H, W, 3), uint8 or in [0, 1], or None
        The image, to be shown beside its maps.
    layers : list of int, or None
        Layers 1…L or negative; None takes some, evenly spaced.
    title : str
        Text above the figure; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        If what is drawn was not measured.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> dataset = ao.probe(backbone, scenes)
    >>> type(ao.pca_maps(dataset)).__name__
    'Figure'
    """
    present(dataset, ["pca"], figure="PCA maps")
    needs_dims(dataset["pca"], "image", "layer", "component", "row", "col", figure="PCA maps")
    shown = chosen_layers(dataset, layers, most=len(layers_of(dataset)))
    image, part = one_image(dataset[["pca"]], image)
    values = part["pca"].sel(layer=shown).transpose("layer", "component", "row", "col").values
    grid = (part.sizes["row"], part.sizes["col"])
    count = min(PCA_COLUMNS, len(shown))
    columns, height = _columns(count, grid, pixels, right=MARGIN, least=WORD, labeled=False)
    columns = replace(columns, slot=max(columns.tile, WORD - GAP), gap=GAP)

    def tile(layer: int, components: np.ndarray) -> Tile:
        def draw(ax: Axes) -> None:
            ax.imshow(pca_colors(components), interpolation="nearest", aspect="auto")
            bare(ax)

        return Tile(draw=draw, name=f"pca {layer}", height=height, head=f"layer {layer}")

    tiles = [tile(layer, components) for layer, components in zip(shown, values, strict=True)]
    rows = [Row(tiles=tiles[start : start + count], space=0.05) for start in range(0, len(tiles), count)]
    note = (
        f"{name_of(dataset['pca'])}: components 1, 2, 3 as red, green, blue; "
        "colors compare within a layer, not between layers"
    )
    return sheet(rows, columns, image=pixels, note=note, title=title or image)
