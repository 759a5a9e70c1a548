"""Maps, images and colors of any kind in rows and columns, with query patches as stars and marks outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure

from figures.look import COLUMN, FULL, INK, QUIET, SKY, SMALL_SIZE, drawing
from figures.maps.heatmap import draw_color_bar
from figures.maps.layer_maps import BAR, CHARACTER, GAP, LINE, MARGIN, TITLE, _bare, _Sheet, draw_map
from figures.maps.one_image import as_rgb
from figures.maps.scales import color_scale
from figures.maps.score_maps import draw_marks
from figures.text import folded, wrapped

SIDE_CHARACTERS = 16  # of a row's name, which stands beside it in as many lines as it takes
SIDE = SIDE_CHARACTERS * CHARACTER + 0.08
LARGEST, SMALLEST = 1.25, 0.42  # inches of a cell
BAR_BELOW = BAR + LINE + 0.03
STAR = 6.5  # points
TINT = 0.3  # opacity of the color over marked patches of an image: it tells which side of an outline they are on
LEGEND_COLUMNS, LEGEND_LINE = 6, 0.17  # inches


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of the grid: a map (rows, cols) with a number for each patch, or an image (h, w, 3).

    `stars` are (row, col) of patches that the map is about, `marked` (rows, cols) bool is outlined, and tinted in an
    image. `grid` is (rows, cols) of the patches of an image, for its stars and marks. `head` stands above it.
    """

    values: np.ndarray
    head: str = ""
    stars: Sequence[tuple[int, int]] = ()
    marked: np.ndarray | None = None
    grid: tuple[int, int] | None = None
    log: bool | None = None

    @property
    def is_map(self) -> bool:
        return np.ndim(self.values) == 2

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns that give the cell its form."""
        return self.grid or (int(np.shape(self.values)[0]), int(np.shape(self.values)[1]))


def draw_cell(ax: Axes, cell: Cell, scale: Normalize | None = None) -> None:
    """One cell into given axes, without ticks."""
    if cell.is_map:
        draw_map(ax, cell.values, scale=scale, log=cell.log)
    else:
        rows, cols = cell.shape
        extent = (-0.5, cols - 0.5, rows - 0.5, -0.5)
        ax.imshow(as_rgb(cell.values), interpolation="antialiased", aspect="auto", extent=extent)
        if cell.marked is not None:
            tint = np.zeros((*cell.marked.shape, 4))
            tint[..., :3], tint[..., 3] = to_rgb(SKY), TINT * cell.marked
            ax.imshow(tint, interpolation="nearest", aspect="auto", extent=extent)
        _bare(ax)
    draw_marks(ax, cell.marked)
    for row, col in cell.stars:
        ax.plot([col], [row], "*", markersize=STAR, color=SKY, markeredgecolor=INK, markeredgewidth=0.5,
                clip_on=False, label="query patch")  # fmt: skip


def cell_grid(
    rows: Mapping[str, Sequence[Cell | None]],
    *,
    shared: bool = True,
    limits: tuple[float, float] | None = None,
    legend: Sequence[Artist] = (),
    note: str = "",
    title: str = "",
) -> Figure:
    """Rows of cells under their heads; a row's name stands on its left.

    `shared`: the maps of a row have one color scale, whose bar stands on the right, so that they can be compared;
    otherwise each map has its own bar below it. Images have none. `limits`: the ends of all scales, then linear.
    `legend`: handles of what colors of images mean. `note`: small words under the grid that say what is drawn. Grids
    need not be square; all cells of a figure have one width. A place that is None stays empty. Heads stand once over
    rows that have the same.
    """
    lines = {name: list(cells) for name, cells in rows.items()}
    known = [cell for cells in lines.values() for cell in cells if cell is not None]
    if not known:
        raise ValueError("a grid of maps should get at least one cell; got none.")
    columns = max(map(len, lines.values()))
    named = any(lines)
    left = MARGIN + (SIDE if named else 0)
    right = (GAP + BAR + 0.5 if shared else 0) + MARGIN
    gap = GAP if shared else 0.12
    width = min((FULL - left - right - gap * (columns - 1)) / columns, LARGEST)
    width = max(width, SMALLEST)
    heads = {
        name: [folded(cell.head, max(int(width / CHARACTER), 6)) if cell else "" for cell in cells]
        for name, cells in lines.items()
    }
    before: list[str] | None = None
    for name, texts in heads.items():
        again, before = texts == before, list(texts)
        if again:
            heads[name] = [""] * len(texts)
    tall = {
        name: max(width * min(cell.shape[0] / cell.shape[1], 2.0) for cell in cells if cell is not None)
        for name, cells in lines.items()
    }
    above = {name: LINE * max(head.count("\n") + 1 if head else 0 for head in texts) for name, texts in heads.items()}
    below = 0.13 if shared else BAR_BELOW
    total_width = max(left + columns * (width + gap) - gap + right, COLUMN)
    words = wrapped(note, int((total_width - 2 * MARGIN) / CHARACTER)) if note else ""
    name_lines = {name: folded(name, SIDE_CHARACTERS) for name in lines}
    steps = {name: max(above[name] + tall[name] + below, LINE * (name_lines[name].count("\n") + 2)) for name in lines}
    height = MARGIN + (TITLE if title else 0) + sum(steps.values()) + (words.count("\n") + 1) * LINE * bool(words)
    key = LEGEND_LINE * -(-len(legend) // LEGEND_COLUMNS)
    height += key + MARGIN
    with drawing((total_width, height), layout=None) as figure:
        sheet = _Sheet(figure, total_width, height)
        if title:
            sheet.title(title)
        top = MARGIN + (TITLE if title else 0)
        for name, cells in lines.items():
            first = top + above[name]
            sheet.text(MARGIN, first, name_lines[name])
            maps = [cell.values for cell in cells if cell is not None and cell.is_map]
            log = next((cell.log for cell in cells if cell is not None and cell.is_map), None)
            everything = np.concatenate([np.ravel(one) for one in maps]) if maps else np.empty(0)
            together = (Normalize(*limits) if limits else color_scale(everything, log)) if shared and maps else None
            for place, cell in enumerate(cells):
                if cell is None:
                    continue
                x = left + place * (width + gap)
                own = width * min(cell.shape[0] / cell.shape[1], 2.0)
                spare = above[name] / LINE - (heads[name][place].count("\n") + 1)
                sheet.text(x, top + max(spare, 0) * LINE - 0.02, heads[name][place])
                ax = sheet.axes(x, first, width, own)
                scale = together
                if cell.is_map and scale is None:
                    scale = Normalize(*limits) if limits else color_scale(np.asarray(cell.values, float), cell.log)
                draw_cell(ax, cell, scale)
                ax.set_label(f"{name} {cell.head}".strip() or "map")
                if cell.is_map and not shared and scale is not None:
                    bar = sheet.axes(x, first + own + 0.025, width, BAR * 0.7)
                    draw_color_bar(bar, scale, np.asarray(cell.values, float), orientation="horizontal")
                    bar.tick_params(labelsize=SMALL_SIZE - 1.5, length=0, pad=1.0)
            if together is not None:
                bar = sheet.axes(left + columns * (width + gap) - gap + GAP, first, BAR, tall[name])
                draw_color_bar(bar, together, everything)
                bar.tick_params(labelsize=SMALL_SIZE - 1)
            top += steps[name]
        if legend:
            figure.legend(handles=list(legend), loc="lower left", ncols=LEGEND_COLUMNS, columnspacing=1.0,
                          bbox_to_anchor=(0.0, MARGIN / height))  # fmt: skip
        if words:
            sheet.text(MARGIN, height - key - MARGIN - (words.count("\n") + 1) * LINE, words, color=QUIET)
    return figure
