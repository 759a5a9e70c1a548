"""One image as the detectors see it: a map of scores for each, with the patches that it marks outlined."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from diagnostics.registry import unknown_name
from figures.curves.layer_axis import chosen_layers
from figures.look import FULL, INK, SKY, style
from figures.maps.layer_maps import draw_map
from figures.maps.one_image import one_image
from figures.maps.scales import color_scale
from figures.sheet import GAP, IMAGE_GAP, LINE, MARGIN, Bar, Columns, Row, Tile, draw_image, image_size, sheet
from figures.tables.frames import short_specs, spec_in_lines
from figures.text import needs_dims, present

MOST_LAYERS = 4  # rows when no layer is asked for

# Outlines on a map from black over purple to pale yellow: both stand out everywhere, and differ in form too.
MARKED_COLOR, PLANTED_COLOR = SKY, "#00D18F"
INSET = 0.22  # a planted patch's square keeps this share of the patch free on each side

# Inches.
LEAST_CELL, LARGEST_CELL = 0.78, 1.1  # narrower columns go into another band
COLUMN_GAP = 0.09
BAND_GAP = 0.1
LAYER_TEXT = 0.22
CHARACTER = 0.06  # width of a small letter, generously


def outline(mask: np.ndarray) -> list[list[tuple[float, float]]]:
    """The border of the marked cells as segments ((x, y), (x, y)), cell (0, 0) having its middle at 0, 0.

    Cells that touch share one border: lines run between a marked cell and one that is not, or the edge of the map.
    """
    padded = np.pad(np.asarray(mask, dtype=bool), 1)
    below = np.argwhere(padded[:-1] != padded[1:])  # a line between rows r and r + 1 of the padded mask
    beside = np.argwhere(padded[:, :-1] != padded[:, 1:])
    across = [[(c - 1.5, r - 0.5), (c - 0.5, r - 0.5)] for r, c in below.tolist()]
    down = [[(c - 0.5, r - 1.5), (c - 0.5, r - 0.5)] for r, c in beside.tolist()]
    return across + down


def squares(mask: np.ndarray, inset: float = INSET) -> list[list[tuple[float, float]]]:
    """A closed square inside each marked cell, as lines of five points."""
    half = 0.5 - inset
    corners = ((-half, -half), (half, -half), (half, half), (-half, half), (-half, -half))
    return [[(c + x, r + y) for x, y in corners] for r, c in np.argwhere(np.asarray(mask, dtype=bool)).tolist()]


def draw_marks(
    ax: Axes,
    marked: np.ndarray | None = None,
    planted: np.ndarray | None = None,
    *,
    color: str = MARKED_COLOR,
    label: str = "marked",
) -> None:
    """Outlines the marked patches of a map, and draws a small square into each planted one."""
    if marked is not None:
        lines = LineCollection(outline(marked), colors=color, linewidths=0.9, clip_on=False)
        lines.set_path_effects([withStroke(linewidth=1.9, foreground=INK)])  # an image may have the color of the line
        lines.set_label(label)
        ax.add_collection(lines, autolim=False)
    if planted is not None:
        lines = LineCollection(squares(planted), colors=PLANTED_COLOR, linewidths=0.7)
        lines.set_label("planted")
        ax.add_collection(lines, autolim=False)


def chosen_detectors(scores: xr.Dataset, detectors: Sequence[str] | None) -> list[str]:
    """The detectors asked for, all of them by default; an unknown one raises ValueError with the near name."""
    known = [str(spec) for spec in scores["detector"].values]
    for spec in detectors or ():
        if spec not in known:
            raise unknown_name("detector", spec, known)
    return list(detectors) if detectors else known


def inside_only(part: xr.Dataset) -> xr.Dataset:
    """One image without the padding of its grid, which `inside` (row, col) tells where the data set has it."""
    if "inside" not in part:
        return part
    inside = part["inside"].values.astype(bool)
    if not inside.any():
        return part
    rows, cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return part.isel(row=slice(rows[0], rows[-1] + 1), col=slice(cols[0], cols[-1] + 1))


def score_maps(
    scores: xr.Dataset,
    image: str | None = None,
    *,
    pixels: np.ndarray | None = None,
    layer: int | None = None,
    detectors: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Every detector's scores for one image, a column each: patches it marks outlined, planted ones with a square.

    `layer`: at most 4 of the layers as rows by default. Each detector has its own color scale, below its maps and the
    same for all its layers, logarithmic where its scores ask for it. Many detectors are set in several bands. With
    `pixels` (h, w, 3), it stands on the left.

    Parameters
    ----------
    scores : xarray.Dataset
        What `ao.score_images` gives: `score` and `marked` with dims detector, image, layer, row, col.
    image : str or None
        Name of the image; the first by default.
    pixels : array (H, W, 3), uint8 or in [0, 1], or None
        The image, to be shown beside its maps.
    layer : int or None
        The layer; the last by default.
    detectors : list of str, or None
        Which of the detectors; all by default.
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
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> type(ao.score_maps(scores, pixels=scenes[0])).__name__
    'Figure'
    """
    present(scores, ["score"], figure="score maps")
    needs_dims(scores["score"], "detector", "image", "layer", "row", "col", figure="score maps")
    names = [name for name in ("score", "marked", "inside", "planted") if name in scores]
    shown = chosen_layers(scores, None if layer is None else [layer], most=MOST_LAYERS)
    specs = chosen_detectors(scores, detectors)
    image, part = one_image(scores[names], image)
    part = inside_only(part).sel(layer=shown, detector=specs).compute()
    values = part["score"].transpose("detector", "layer", "row", "col").values.astype(np.float64)
    marked = part["marked"].transpose("detector", "layer", "row", "col").values if "marked" in part else None
    planted = part["planted"].transpose("row", "col").values.astype(bool) if "planted" in part else None
    grid = (part.sizes["row"], part.sizes["col"])

    columns, bands = _columns_of(len(specs), grid, pixels)
    short = short_specs(specs)
    scales = [color_scale(detector_values) for detector_values in values]

    def tile(place: int, row: int) -> Tile:
        marks = None if marked is None else marked[place, row]

        def draw(ax: Axes) -> None:
            draw_map(ax, values[place, row], scale=scales[place])
            draw_marks(ax, marks, planted)

        return Tile(
            draw=draw,
            name=f"{specs[place]} {shown[row]}",
            height=columns.tile * grid[0] / grid[1],
            head=spec_in_lines(short[specs[place]], max(int(columns.slot / CHARACTER), 8)),
            bar=Bar(scales[place], values[place]) if row == len(shown) - 1 else None,
        )

    rows = [
        Row(
            tiles=[tile(place, row) for place in places],
            label=str(number),
            head_label="layer" if row == 0 else "",
            least=LINE,  # flat maps leave room for the layer's number
            space=BAND_GAP if row == len(shown) - 1 else GAP,
        )
        for places in bands
        for row, number in enumerate(shown)
    ]
    draw_pixels = None if pixels is None else partial(_draw_image, pixels=pixels, grid=grid, planted=planted)
    handles = _handles(marked is not None, planted is not None)
    return sheet(rows, columns, image=pixels, draw_pixels=draw_pixels, legend=handles, title=title or image)


def _columns_of(
    detectors: int, grid: tuple[int, int], pixels: np.ndarray | None
) -> tuple[Columns, list[Sequence[int]]]:
    """Columns as wide as the page allows, and which detectors stand in each band of them."""
    taken = image_size(pixels)[0] + IMAGE_GAP if pixels is not None else 0
    room = FULL - 2 * MARGIN - LAYER_TEXT - taken
    fitting = int((room + COLUMN_GAP) / (LEAST_CELL + COLUMN_GAP))
    count = -(-detectors // -(-detectors // fitting))
    slot = min((room + COLUMN_GAP) / count - COLUMN_GAP, LARGEST_CELL)
    width = min(slot, LARGEST_CELL * 1.5 * grid[1] / grid[0])
    bands: list[Sequence[int]] = [range(first, min(first + count, detectors)) for first in range(0, detectors, count)]
    return Columns(count=count, tile=width, slot=slot, gap=COLUMN_GAP, side=LAYER_TEXT, numbered=True), bands


def _draw_image(ax: Axes, pixels: np.ndarray, grid: tuple[int, int], planted: np.ndarray | None) -> None:
    """The image in coordinates of its patches, with a square in each planted one."""
    draw_image(ax, pixels, grid)
    draw_marks(ax, planted=planted)


def _handles(marked: bool, planted: bool) -> list[Line2D]:
    """What the legend says of the marks that are drawn."""
    with style():
        handles = [Line2D([], [], color=MARKED_COLOR, label="marked by the detector's own rule")] if marked else []
        if planted:
            square = Line2D([], [], color=PLANTED_COLOR, linestyle="none", marker="s", markersize=4.5, label="planted")
            square.set_markerfacecolor("none")
            handles.append(square)
    return handles
