"""A score over two settings at once, each pair of them as a cell with its number."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from figures.look import COLUMN, ORDER_COLORS, SMALL_SIZE, drawing
from figures.maps.heatmap import draw_color_bar, draw_heatmap
from figures.text import short_number

CELL = (0.44, 0.26)  # inches
DARK = 0.5  # luminance below which a number is white


def draw_landscape(ax: Axes, table: pd.DataFrame, *, scale: Normalize, digits: int = 2) -> None:
    """Rows and columns of a table as cells with their numbers; the largest one is framed, nan is gray."""
    values = table.to_numpy(dtype=np.float64)
    draw_heatmap(ax, values, scale=scale, colors=ORDER_COLORS, aspect="auto")
    shades = matplotlib.colormaps[ORDER_COLORS](scale(np.nan_to_num(values)))[..., :3]
    luminance = shades @ np.array([0.2126, 0.7152, 0.0722])  # Rec. 709
    best = np.nanmax(values) if np.isfinite(values).any() else np.nan
    for row, col in np.argwhere(np.isfinite(values)).tolist():
        ink = "white" if luminance[row, col] < DARK else "black"
        weight = "bold" if values[row, col] == best else "normal"
        ax.text(col, row, f"{values[row, col]:.{digits}f}", ha="center", va="center", fontsize=SMALL_SIZE - 1,
                color=ink, fontweight=weight)  # fmt: skip
    ax.set_xticks(range(table.shape[1]), [short_number(float(name)) for name in table.columns])
    ax.set_yticks(range(table.shape[0]), [short_number(float(name)) for name in table.index])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def landscape(table: pd.DataFrame, *, xlabel: str, ylabel: str, value: str, digits: int = 2, title: str = "") -> Figure:
    """A table of scores over two settings, rows by columns, the best in bold; `value` says what is scored."""
    if not table.size:
        raise ValueError(f"a landscape should get a table with rows and columns; got {table.shape}.")
    values = table.to_numpy(dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    scale = Normalize(low, high if high > low else low + 1e-3)
    size = (max(CELL[0] * table.shape[1] + 1.0, COLUMN), CELL[1] * table.shape[0] + 0.75)
    with drawing(size, title=title) as figure:
        ax, bar = figure.subplots(1, 2, width_ratios=(size[0] - 1, 0.09))
        draw_landscape(ax, table, scale=scale, digits=digits)
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.set_title(value, fontsize=SMALL_SIZE)
        draw_color_bar(bar, scale, values, colors=ORDER_COLORS)
    return figure
