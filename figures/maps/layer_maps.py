"""What an image's patches show at each layer: maps of norms and attention, and tokens as colors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from figures.curves.layer_axis import chosen_layers, layers_of
from figures.look import COLUMN, FULL, QUIET, SMALL_SIZE, drawing
from figures.maps.heatmap import draw_color_bar, draw_heatmap
from figures.maps.one_image import as_rgb, one_image
from figures.maps.scales import color_scale
from figures.text import label_of, name_of, needs_dims, present, shortened, wrapped

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
FRAME = "#4D4D4D"

# Inches. Maps are set by hand and not by a layout engine: cells keep the shape of the grid, and stay in line.
MARGIN = 0.08
GAP = 0.035
LINE = 0.135  # a line of small text
TITLE = 0.24
BAR, BAR_TEXT = 0.07, 0.54
IMAGE = 1.15
IMAGE_GAP = 0.12
SIDE_TEXT = 0.36  # the word «layer» where there is no image above it
LARGEST_CELL, SMALLEST_ROW = 1.1, 0.3
NUMBER, WORD = 0.18, 0.5  # least room for «12» and for «layer 12»: narrow maps stand apart
CHARACTER = 0.06  # width of a small letter, generously


@dataclass(frozen=True)
class _Sheet:
    """A figure of fixed size whose places are told in inches from its top left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        where = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        ax = self.figure.add_axes(where)
        ax.grid(False)
        return ax

    def text(self, left: float, top: float, text: str, *, color: str = "black", align: str = "left") -> None:
        x, y = left / self.width, 1 - top / self.height
        self.figure.text(x, y, text, fontsize=SMALL_SIZE, color=color, ha=align, va="top")

    def title(self, title: str) -> None:
        most = int((self.width - 2 * MARGIN) / (1.25 * CHARACTER))
        x, y = MARGIN / self.width, 1 - MARGIN / self.height
        self.figure.suptitle(shortened(title, most), x=x, y=y, ha="left", va="top", parse_math=False)


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
    _bare(ax)
    return image


def _bare(ax: Axes) -> None:
    """No ticks, and a thin frame: outliers like corners, where their light colors would run into the page."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color=FRAME, linewidth=0.4)


def _cell(avail: float, count: int, grid: tuple[int, int]) -> tuple[float, float]:
    """Width and height of `count` cells side by side that keep the shape of the grid."""
    width = min((avail - GAP * (count - 1)) / count, LARGEST_CELL, LARGEST_CELL * 1.5 * grid[1] / grid[0])
    return width, width * grid[0] / grid[1]


def _image_size(image: np.ndarray | None) -> tuple[float, float]:
    """Width and height of the image on the sheet, in inches; no image takes no room."""
    if image is None:
        return 0.0, 0.0
    height, width = as_rgb(image).shape[:2]
    wide = min(IMAGE, IMAGE * 1.5 * width / height)
    return wide, wide * height / width


def _draw_image(sheet: _Sheet, image: np.ndarray, top: float, size: tuple[float, float]) -> None:
    ax = sheet.axes(MARGIN, top, *size)
    ax.imshow(as_rgb(image), interpolation="antialiased", aspect="auto")
    ax.set_label("image")
    _bare(ax)


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
    """
    if overlay and pixels is None:
        raise ValueError("`overlay` should come with the `pixels` to lay the maps over; got None.")
    names = present(dataset, variables, figure="maps over layers")
    for name in names:
        needs_dims(dataset[name], "image", "layer", "row", "col", figure="maps over layers")
    shown = chosen_layers(dataset, layers, most=MOST_LAYERS)
    image, one = one_image(dataset[names], image)
    rows = []
    for name in names:
        values = one[name].sel(layer=shown)
        extra = [dim for dim in values.dims if dim not in ("layer", "row", "col")]
        rows.append(values.mean(extra, keep_attrs=True).transpose("layer", "row", "col").compute())
    grid = (one.sizes["row"], one.sizes["col"])

    wide, high = _image_size(pixels)
    left = MARGIN + (wide + IMAGE_GAP if pixels is not None else SIDE_TEXT)
    right = GAP + BAR + BAR_TEXT
    cell_width, cell_height = _cell(FULL - left - right, len(shown), grid)
    row_height = max(cell_height, SMALLEST_ROW)
    pitch = max(cell_width + GAP, NUMBER)
    maps_width = len(shown) * pitch - GAP
    width = max(left + maps_width + right, COLUMN)
    scales = [color_scale(values.values, True if values.name in ALWAYS_LOG else None) for values in rows]
    headings = [
        label_of(values, log=isinstance(scale, LogNorm), width=int((width - left) / CHARACTER))
        for values, scale in zip(rows, scales, strict=True)
    ]
    heights = [(heading.count("\n") + 1) * LINE + 0.02 + row_height + 0.07 for heading in headings]
    height = MARGIN + TITLE + max(sum(heights) + LINE, LINE + high) + MARGIN

    with drawing((width, height), layout=None) as figure:
        sheet = _Sheet(figure, width, height)
        sheet.title(title or image)
        top = MARGIN + TITLE
        if pixels is not None:
            _draw_image(sheet, pixels, top + LINE + 0.02, (wide, high))
        for values, scale, heading, step in zip(rows, scales, headings, heights, strict=True):
            sheet.text(left, top, heading)
            head = top + step - row_height - 0.07
            for place in range(len(shown)):
                ax = sheet.axes(left + place * pitch, head, cell_width, cell_height)
                under = pixels if overlay else None
                draw_map(ax, values.values[place], pixels=under, scale=scale)
                ax.set_label(f"{values.name} {shown[place]}")
            bar = sheet.axes(left + maps_width + GAP, head, BAR, row_height)
            draw_color_bar(bar, scale, values.values)
            bar.tick_params(labelsize=SMALL_SIZE - 1)
            top += step
        sheet.text(left - 0.06, top - 0.04, "layer", align="right")
        for place, layer in enumerate(shown):
            sheet.text(left + place * pitch + cell_width / 2, top - 0.04, str(layer), align="center")
    return figure


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
    """
    present(dataset, ["pca"], figure="PCA maps")
    needs_dims(dataset["pca"], "image", "layer", "component", "row", "col", figure="PCA maps")
    shown = chosen_layers(dataset, layers, most=len(layers_of(dataset)))
    image, one = one_image(dataset[["pca"]], image)
    values = one["pca"].sel(layer=shown).transpose("layer", "component", "row", "col").values
    grid = (one.sizes["row"], one.sizes["col"])

    wide, high = _image_size(pixels)
    left = MARGIN + (wide + IMAGE_GAP if pixels is not None else 0)
    columns = min(PCA_COLUMNS, len(shown))
    cell_width, cell_height = _cell(FULL - left - MARGIN, columns, grid)
    rows = -(-len(shown) // columns)
    step = LINE + 0.02 + cell_height + 0.05
    pitch = max(cell_width + GAP, WORD)
    width = max(left + columns * pitch - GAP + MARGIN, COLUMN)
    note = wrapped(
        f"{name_of(dataset['pca'])}: components 1, 2, 3 as red, green, blue; "
        "colors compare within a layer, not between layers",
        int((width - 2 * MARGIN) / CHARACTER),
    )
    note_height = (note.count("\n") + 1) * LINE
    height = MARGIN + TITLE + max(rows * step, LINE + 0.07 + high) + note_height + MARGIN
    with drawing((width, height), layout=None) as figure:
        sheet = _Sheet(figure, width, height)
        sheet.title(title or image)
        top = MARGIN + TITLE
        if pixels is not None:
            _draw_image(sheet, pixels, top + LINE + 0.02, (wide, high))
        for place, layer in enumerate(shown):
            x = left + place % columns * pitch
            y = top + place // columns * step
            sheet.text(x, y, f"layer {layer}")
            ax = sheet.axes(x, y + LINE + 0.02, cell_width, cell_height)
            ax.imshow(pca_colors(values[place]), interpolation="nearest")
            ax.set_label(f"pca {layer}")
            _bare(ax)
        sheet.text(MARGIN, height - MARGIN - note_height, note, color=QUIET)
    return figure
