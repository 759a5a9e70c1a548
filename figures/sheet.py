"""One page layout, in inches, for all figures that place maps: rows and columns of tiles with their words and bars.

A page is a title, an image on the left where there is one, rows of tiles, and a note and a legend at the bottom. No
layout engine moves anything: tiles keep the shape of their grid and stay in line, and every word has its room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from figures.lettering import lines_within, width_of
from figures.look import COLUMN, QUIET, SMALL_SIZE, TITLE_SIZE, drawing
from figures.maps.heatmap import draw_color_bar
from figures.maps.one_image import as_rgb

# Inches.
MARGIN = 0.08
GAP = 0.035
LINE = 0.135  # a line of small text
TITLE_LINE, TITLE_LINES = 0.16, 2
BAR, BAR_TEXT = 0.07, 0.54
BAR_BELOW = 0.025 + BAR * 0.7 + LINE  # a horizontal bar with its numbers
HEAD_GAP = 0.02
IMAGE, IMAGE_GAP = 1.15, 0.12
FOOT_LABEL = 0.36  # the word «layer» beside the feet
LEGEND_LINE, LEGEND_COLUMNS, LEGEND_COLOR = 0.17, 6, 0.36
FRAME = "#4D4D4D"


@dataclass(frozen=True)
class Bar:
    """A color bar: its scale, the values whose smallest may lie below it, and a word above a vertical one."""

    scale: Normalize
    values: np.ndarray
    words: str = ""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One place of a row: what is drawn into its axes, their name, and the words over and under it."""

    draw: Callable[[Axes], object]
    name: str
    height: float
    head: str = ""
    foot: str = ""
    bar: Bar | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """Tiles side by side; a place that is None stays empty.

    `heading` stands over all of them, `label` beside them, `head_label` beside their heads and `foot_label` beside
    their feet. `bar` is a color bar on the right. `least` is the room that low tiles have at least, `space` that under
    the row.
    """

    tiles: Sequence[Tile | None]
    heading: str = ""
    label: str = ""
    head_label: str = ""
    foot_label: str = ""
    bar: Bar | None = None
    least: float = 0.0
    space: float = GAP


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Inches across: a tile, the slot that it and its words have, the gap to the next, and room on both sides.

    Labels stand left in the room `side`, or, if `numbered`, on its right, in the middle of their row.
    """

    count: int
    tile: float
    slot: float
    gap: float = GAP
    side: float = 0.0
    right: float = MARGIN
    numbered: bool = False

    @property
    def span(self) -> float:
        return self.count * (self.slot + self.gap) - self.gap


@dataclass(frozen=True)
class Page:
    """A figure of fixed size whose places are given in inches from its top left corner."""

    figure: Figure
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        where = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        ax = self.figure.add_axes(where)
        ax.grid(False)
        return ax

    def text(self, left: float, top: float, text: str, *, color: str = "black", align: str = "left") -> None:
        if text:
            x, y = left / self.width, 1 - top / self.height
            self.figure.text(x, y, text, fontsize=SMALL_SIZE, color=color, ha=align, va="top", parse_math=False)

    def title(self, text: str) -> None:
        x, y = MARGIN / self.width, 1 - MARGIN / self.height
        self.figure.suptitle(text, x=x, y=y, ha="left", va="top", parse_math=False)


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Where the parts of a row stand, in inches from its top: heads' last line, tiles, feet, and its end."""

    lines: int
    tiles: float
    tall: float
    foot: float
    end: float


def bare(ax: Axes) -> None:
    """No ticks, and a thin frame: outliers like corners, where their light colors would run into the page."""
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color=FRAME, linewidth=0.4)


def image_size(image: np.ndarray | None) -> tuple[float, float]:
    """Width and height of the image on the page, in inches; no image takes no room."""
    if image is None:
        return 0.0, 0.0
    height, width = as_rgb(image).shape[:2]
    wide = min(IMAGE, IMAGE * 1.5 * width / height)
    return wide, wide * height / width


def draw_image(ax: Axes, image: np.ndarray, grid: tuple[int, int] | None = None) -> None:
    """The image in its axes' shape; with `grid` in coordinates of its patches, (0, 0) the middle of the first."""
    extent = None if grid is None else (-0.5, grid[1] - 0.5, grid[0] - 0.5, -0.5)
    ax.imshow(as_rgb(image), interpolation="antialiased", aspect="auto", extent=extent)
    bare(ax)


def lines_in(text: str) -> int:
    return text.count("\n") + 1 if text else 0


def _wrapped(row: Row, columns: Columns, before: Row | None) -> Row:
    """The row with its words in lines that fit; heads that are those of the row before are left out."""
    same = before is not None and [t and t.head for t in row.tiles] == [t and t.head for t in before.tiles]
    tiles = [
        tile and replace(tile, head="" if same else lines_within(tile.head, columns.slot, SMALL_SIZE))
        for tile in row.tiles
    ]
    heading = lines_within(row.heading, columns.span + columns.right - MARGIN, SMALL_SIZE) if row.heading else ""
    label = row.label if columns.numbered else lines_within(row.label, columns.side - 0.06, SMALL_SIZE)
    return replace(row, tiles=tiles, heading=heading, label=label)


def _measured(row: Row) -> Measures:
    tiles = [tile for tile in row.tiles if tile is not None]
    lines = max((lines_in(tile.head) for tile in tiles), default=0)
    over_bar = row.bar is not None and row.bar.words and not row.heading
    lines = max(lines, 1 if row.head_label or over_bar else 0)
    first = (lines_in(row.heading) + lines) * LINE
    first += HEAD_GAP if first else 0
    tall = max(max((tile.height for tile in tiles), default=0.0), row.least)
    foot = first + tall + (BAR_BELOW if any(tile.bar for tile in tiles) else 0)
    end = foot + (0.03 + LINE if any(tile.foot for tile in tiles) else 0)
    # A row is as high as the words beside it.
    end = max(end, first + lines_in(row.label) * LINE) + row.space
    return Measures(lines=lines, tiles=first, tall=tall, foot=foot, end=end)


def _draw_row(page: Page, row: Row, measures: Measures, columns: Columns, left: float, top: float) -> None:
    """One row, whose first tile begins at `left`, its words at `top`."""
    first = top + measures.tiles
    page.text(left, top, row.heading)
    if columns.numbered:
        page.text(left - 0.05, first + (measures.tall - LINE) / 2, row.label, align="right")
    else:
        page.text(left - columns.side, first, row.label)
    page.text(left - 0.05, first - HEAD_GAP - LINE, row.head_label, align="right")
    page.text(left - 0.06, top + measures.foot + 0.03, row.foot_label, align="right")
    for place, tile in enumerate(row.tiles):
        if tile is None:
            continue
        x = left + place * (columns.slot + columns.gap)
        page.text(x, first - HEAD_GAP - lines_in(tile.head) * LINE, tile.head)
        down = (measures.tall - tile.height) / 2 if columns.numbered else 0
        ax = page.axes(x, first + down, columns.tile, tile.height)
        tile.draw(ax)
        ax.set_label(tile.name)
        if tile.bar is not None:
            bar = page.axes(
                x, first + (measures.tall if columns.numbered else tile.height) + 0.025, columns.slot, BAR * 0.7
            )
            draw_color_bar(bar, tile.bar.scale, tile.bar.values, orientation="horizontal")
            bar.tick_params(labelsize=SMALL_SIZE - 1.5, length=0, pad=1.0)
        page.text(x + columns.tile / 2, top + measures.foot + 0.03, tile.foot, align="center")
    if row.bar is not None:
        bar = page.axes(left + columns.span + GAP, first, BAR, measures.tall)
        draw_color_bar(bar, row.bar.scale, row.bar.values)
        page.text(left + columns.span + GAP, first - HEAD_GAP - LINE, row.bar.words)
        bar.tick_params(labelsize=SMALL_SIZE - 1)


def legend_columns(handles: Sequence[Artist], width: float) -> int:
    """How many entries of a legend stand side by side in `width` inches, at most 6."""
    longest = max((width_of(str(handle.get_label()), SMALL_SIZE) for handle in handles), default=0.0)
    return max(1, min(LEGEND_COLUMNS, int(width / (longest + LEGEND_COLOR)), len(handles)))


def room_for_labels(rows: Sequence[Row], measures: Sequence[Measures], image_height: float) -> float:
    """Inches between the image and the tiles: more where a word beside the feet would else be printed over it."""
    top = measures[0].tiles
    bottom, start = top + image_height, 0.0
    for row, measure in zip(rows, measures, strict=True):
        if row.foot_label and start + measure.foot < bottom:
            return FOOT_LABEL
        start += measure.end
    return IMAGE_GAP


def sheet(
    rows: Sequence[Row],
    columns: Columns,
    *,
    image: np.ndarray | None = None,
    draw_pixels: Callable[[Axes], object] | None = None,
    legend: Sequence[Artist] = (),
    note: str = "",
    title: str = "",
) -> Figure:
    """The page: `rows` from top to bottom; `image` on the left, level with the first tiles, drawn by `draw_pixels`
    where that is given.

    The page is as wide as its parts, at least one column of a paper; titles, notes and headings are broken into lines
    where they are longer, at most two of a title.
    """
    lined = [_wrapped(row, columns, rows[place - 1] if place else None) for place, row in enumerate(rows)]
    measures = [_measured(row) for row in lined]
    wide, high = image_size(image)
    left = MARGIN + columns.side
    if image is not None:
        left += wide + room_for_labels(lined, measures, high)
    width = max(left + columns.span + columns.right, COLUMN)
    title = lines_within(title, width - 2 * MARGIN, TITLE_SIZE, most=TITLE_LINES) if title else ""
    note = lines_within(note, width - 2 * MARGIN, SMALL_SIZE) if note else ""
    top = MARGIN + (TITLE_LINE * lines_in(title) + 0.08 if title else 0)
    body = max(sum(measure.end for measure in measures), measures[0].tiles + high + HEAD_GAP)
    across = legend_columns(legend, width)
    key = LEGEND_LINE * -(-len(legend) // across)
    height = top + body + lines_in(note) * LINE + key + MARGIN
    with drawing((width, height), layout=None) as figure:
        page = Page(figure, width, height)
        if title:
            page.title(title)
        if image is not None:
            ax = page.axes(MARGIN, top + measures[0].tiles, wide, high)
            (draw_pixels or partial(draw_image, image=image))(ax)
            ax.set_label("image")
        start = top
        for row, measure in zip(lined, measures, strict=True):
            _draw_row(page, row, measure, columns, left, start)
            start += measure.end
        page.text(MARGIN, height - MARGIN - key - lines_in(note) * LINE, note, color=QUIET)
        if legend:
            drawn = figure.legend(handles=list(legend), loc="lower left", ncols=across, columnspacing=1.0,
                                  bbox_to_anchor=(0.0, MARGIN / 2 / height))  # fmt: skip
            for text in drawn.get_texts():
                text.set_parse_math(False)  # a word may hold dollar signs
    return figure


def tile_size(
    room: float, count: int, grid: tuple[int, int], *, gap: float = GAP, largest: float
) -> tuple[float, float]:
    """Width and height of `count` tiles side by side in this room that keep the shape of the grid."""
    width = min((room - gap * (count - 1)) / count, largest, largest * 1.5 * grid[1] / grid[0])
    return width, width * grid[0] / grid[1]
