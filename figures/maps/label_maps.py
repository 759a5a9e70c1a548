"""Label maps over their image: one with its legend, or those of several methods side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from diagnostics.images.class_colors import class_colors
from figures.lettering import lines_within
from figures.look import FULL, TEXT_SIZE, TITLE_ROOM, TITLE_SIZE, drawing
from figures.maps.one_image import as_rgb
from figures.text import shortened

# ITU-R BT.601: how bright red, green and blue look.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
OPACITY = 0.6  # of the colors over the image
MOST_NAMES = 24  # in a legend; the rest is counted
LEGEND_ROW, TITLE_ROW, NEXT_ROW = 0.17, 0.2, 0.14  # inches; of a title the first line and those that follow
CELL = 1.62  # inches: four columns across a page
NAME = 22  # characters of a class name
# Inches of a character of the legend, in our style, and of what a color takes.
LEGEND_LETTER, LEGEND_COLOR = 0.055, 0.32


def colored(image: np.ndarray, labels: np.ndarray, colors: np.ndarray, *, opacity: float = OPACITY) -> np.ndarray:
    """The image (H, W, 3) in grays, each pixel tinted by its class's color: (H, W, 3) in [0, 1].

    Colors of the image would mix with those of the classes, which the legend could then not name. Labels
    below 0 leave the image as it is.
    """
    rgb = as_rgb(image)
    if labels.shape != rgb.shape[:2]:
        raise ValueError(
            f"`labels` should have the image's height and width {rgb.shape[:2]}; got {labels.shape}. "
            "Resize the image, or ask for labels at its own size."
        )
    tint = np.asarray(colors, np.float32)[np.maximum(labels, 0)] / 255
    gray = (rgb @ LUMA)[..., None]
    return np.where((labels >= 0)[..., None], (1 - opacity) * gray + opacity * tint, rgb)


def draw_label_map(
    ax: Axes, image: np.ndarray, labels: np.ndarray, colors: np.ndarray, *, opacity: float = OPACITY
) -> None:
    """Draws the tinted image into given axes, without ticks."""
    ax.imshow(colored(image, labels, colors, opacity=opacity), interpolation="antialiased")
    bare(ax)


def bare(ax: Axes) -> None:
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)


def legend_of(
    labels: Sequence[np.ndarray], names: Sequence[str], colors: np.ndarray, *, most: int = MOST_NAMES
) -> list[Patch]:
    """Handles of the classes that occur, the largest area first; past `most` a last one counts the others."""
    counts = np.zeros(len(names), np.int64)
    for classes in labels:
        counts += np.bincount(classes[classes >= 0].ravel(), minlength=len(names))
    present = [int(number) for number in np.argsort(-counts, kind="stable") if counts[number]]
    shown = [
        Patch(
            facecolor=tuple(colors[number] / 255),
            edgecolor="#888888",
            linewidth=0.4,
            label=shortened(names[number], NAME),
        )
        for number in present[:most]
    ]
    if len(present) > most:
        shown.append(Patch(facecolor="none", edgecolor="none", label=f"and {len(present) - most} more"))
    return shown


def label_map(
    image: np.ndarray, labels: np.ndarray, names: Sequence[str], *, background: int | None = None, title: str = ""
) -> Figure:
    """One image (H, W, 3) tinted by its labels (H, W), with a legend of the classes that occur.

    The class `background` is black. Labels < 0 are pixels that were not scored; they stay as they are.
    """
    return method_sheet(image, {"": labels}, names, background=background, title=title, with_image=False)


def method_sheet(
    image: np.ndarray,
    labels: Mapping[str, np.ndarray],
    names: Sequence[str],
    *,
    background: int | None = None,
    truth: np.ndarray | None = None,
    scores: Mapping[str, float] | pd.Series | None = None,
    title: str = "",
    with_image: bool = True,
    columns: int = 4,
) -> Figure:
    """Label maps of several methods on one image, side by side, with one legend.

    `labels`: method -> (H, W) class numbers. The image itself comes first, then the `truth`, if given. `scores` are
    mean IoUs in [0, 1], to stand behind the methods' names. At most `columns` stand side by side.

    Parameters
    ----------
    image : array (H, W, 3) uint8
        The image.
    labels : dict of str to int array (H, W)
        Label map by method; -1 is no label.
    names : list of str
        Classes in the order of their numbers.
    background : int or None
        The class that is drawn pale.
    truth : int array (H, W), or None
        The true label map.
    scores : dict or Series, or None
        Mean IoU in [0, 1] by method.
    title : str
        Text above the figure; empty for none.
    with_image : bool
        Whether the image itself is shown.
    columns : int
        Most maps in a row, at least 1.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        For a label map of another size, or numbers without a name.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> scene = ao.Shapes(scenes=1)[0]
    >>> drawn = ao.method_sheet(scene.image, {"truth itself": scene.labels}, ao.Shapes().names)
    >>> type(drawn).__name__
    'Figure'
    """
    if not labels:
        raise ValueError("a sheet of methods should get at least one label map; got none.")
    colors = class_colors(len(names), background=background)
    cells: list[tuple[str, np.ndarray | None]] = [("image", None)] if with_image else []
    if truth is not None:
        cells.append(("truth", truth))
    cells += list(labels.items())
    rows = -(-len(cells) // max(1, min(columns, len(cells))))
    columns = -(-len(cells) // rows)  # as few places as can be stay empty
    height, width = image.shape[:2]
    single = len(cells) == 1
    cell_width = FULL * 0.75 if single else FULL / columns
    cell_height = min(cell_width * height / width, 2.2 * cell_width)
    handles = legend_of([classes for _, classes in cells if classes is not None], names, colors)
    wide = cell_width if single else FULL
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    legend_columns = max(1, min(6, len(handles), int(wide / (LEGEND_COLOR + LEGEND_LETTER * longest))))
    # A place that stays empty takes the legend, where that fits.
    inside_columns = max(1, int(cell_width / (LEGEND_COLOR + LEGEND_LETTER * longest)))
    is_inside = rows * columns > len(cells) and 0 < LEGEND_ROW * -(-len(handles) // inside_columns) < cell_height
    legend = 0.0 if is_inside else LEGEND_ROW * -(-len(handles) // legend_columns) + 0.08
    heads = [lines_within(_head(name, scores), cell_width - 0.1, TEXT_SIZE) for name, _ in cells]
    head = max(map(_height, heads))
    title = lines_within(title, wide - TITLE_ROOM, TITLE_SIZE)
    total = rows * (cell_height + head) + legend + _height(title) + 0.15
    with drawing((wide, total), title=title) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for ax, (name, classes), text in zip(grid.flat, cells, heads, strict=False):
            if classes is None:
                ax.imshow(as_rgb(image), interpolation="antialiased")
                bare(ax)
            else:
                draw_label_map(ax, image, classes, colors)
            ax.set_title(text, parse_math=False)
            ax.set_label(name or "label map")
        free = list(grid.flat[len(cells) :])
        for ax in free[is_inside:]:
            ax.remove()
        if handles:
            _draw_legend(
                figure, free[0] if is_inside else None, handles, inside_columns if is_inside else legend_columns
            )
    return figure


def _draw_legend(figure: Figure, place: Axes | None, handles: Sequence[Patch], columns: int) -> None:
    """The colors of the classes, in a place that is free or below all."""
    if place is None:
        drawn = figure.legend(handles=handles, loc="outside lower left", ncols=columns, columnspacing=1.0)
    else:
        place.axis("off")
        place.set_label("legend")
        drawn = place.legend(handles=handles, loc="upper left", ncols=columns, borderaxespad=0.0, columnspacing=1.0)
    for label in drawn.get_texts():
        label.set_parse_math(False)  # a word may hold dollar signs


def _head(name: str, scores: Mapping[str, float] | pd.Series | None) -> str:
    """What stands over a cell: its name, and its mean IoU if that is known."""
    return f"{name}  mIoU {scores[name]:.2f}" if scores is not None and name in scores else name


def _height(text: str) -> float:
    """Inches of a title of some lines."""
    return TITLE_ROW + NEXT_ROW * text.count("\n") if text else 0.0
