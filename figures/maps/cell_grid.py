"""Maps, images and colors of any kind in rows and columns, with query patches as stars and marks outlined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure

from figures.look import FULL, INK, SKY, VERMILION
from figures.maps.layer_maps import draw_map
from figures.maps.one_image import as_rgb
from figures.maps.scales import color_scale
from figures.maps.score_maps import draw_marks
from figures.sheet import BAR, GAP, MARGIN, Bar, Columns, Row, Tile, bare, sheet

SIDE = 1.04  # inches for the name of a row, which stands beside it in as many lines as it takes
LARGEST, SMALLEST = 1.25, 0.42  # inches of a cell
TALLEST = 2.0  # times its width that a cell is high at most
NUMBERS = 0.5  # inches of the numbers of a bar
STAR = 6.5  # points
TINT = 0.3  # opacity of the color over marked patches of an image: it tells which side of an outline they are on


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place of the grid: a map (rows, cols) with a number for each patch, or an image (h, w, 3).

    `stars` are (row, col) of patches that the map is about, `triangles` of others that stand apart from these.
    `marked` (rows, cols) bool is outlined, and tinted in an image; `boxed` is outlined in red. `grid` is (rows, cols)
    of the patches of an image, for its stars and marks. `head` stands above it. `scale` is a color scale that the map
    shares with others; in a row with one scale, that of its first map.
    """

    values: np.ndarray
    head: str = ""
    stars: Sequence[tuple[int, int]] = ()
    triangles: Sequence[tuple[int, int]] = ()
    marked: np.ndarray | None = None
    boxed: np.ndarray | None = None
    grid: tuple[int, int] | None = None
    log: bool | None = None
    scale: Normalize | None = None

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
        bare(ax)
    draw_marks(ax, cell.marked)
    if cell.boxed is not None:
        draw_marks(ax, cell.boxed, color=VERMILION, label="boxed")
    for places, form, label in ((cell.stars, "*", "query patch"), (cell.triangles, "^", "outlier")):
        for row, col in places:
            ax.plot([col], [row], form, markersize=STAR, color=SKY, markeredgecolor=INK, markeredgewidth=0.5,
                    clip_on=False, label=label)  # fmt: skip


def _scale_of(values: np.ndarray, log: bool | None, limits: tuple[float, float] | None) -> Normalize:
    return Normalize(*limits) if limits else color_scale(np.asarray(values, float), log)


def _tile_of(name: str, cell: Cell, width: float, scale: Normalize | None, *, with_bar: bool) -> Tile:
    return Tile(
        draw=partial(draw_cell, cell=cell, scale=scale),
        name=f"{name} {cell.head}".strip() or "map",
        height=width * min(cell.shape[0] / cell.shape[1], TALLEST),
        head=cell.head,
        bar=Bar(scale, np.asarray(cell.values, float)) if with_bar and scale is not None else None,
    )


def _row_of(
    name: str, cells: Sequence[Cell | None], width: float, *, shared: bool, limits: tuple[float, float] | None
) -> Row:
    """The cells of a row as tiles, with one scale and bar for all of them or one for each."""
    maps = [cell for cell in cells if cell is not None and cell.is_map]
    tiles: list[Tile | None] = []
    bar = None
    if shared and maps:
        everything = np.concatenate([np.ravel(cell.values) for cell in maps])
        scale = maps[0].scale or _scale_of(everything, maps[0].log, limits)
        bar = Bar(scale, everything, "log" if isinstance(scale, LogNorm) else "")
    for cell in cells:
        if cell is None:
            tiles.append(None)
            continue
        own_scale = cell.scale or (_scale_of(cell.values, cell.log, limits) if cell.is_map else None)
        tiles.append(_tile_of(name, cell, width, bar.scale if bar else own_scale, with_bar=cell.is_map and not bar))
    return Row(tiles=tiles, label=name, bar=bar, space=0.03 if maps and not bar else 0.13)


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
    if not any(cell is not None for cells in rows.values() for cell in cells):
        raise ValueError("a grid of maps should get at least one cell; got none.")
    count = max(map(len, rows.values()))
    side = SIDE if any(rows) else 0.0
    right = MARGIN + (GAP + BAR + NUMBERS if shared else 0)
    gap = GAP if shared else 0.12
    width = max(min((FULL - MARGIN - side - right - gap * (count - 1)) / count, LARGEST), SMALLEST)
    drawn = [_row_of(name, list(cells), width, shared=shared, limits=limits) for name, cells in rows.items()]
    columns = Columns(count=count, tile=width, slot=width, gap=gap, side=side, right=right)
    return sheet(drawn, columns, legend=legend, note=note, title=title)
