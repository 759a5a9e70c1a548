"""A score over two settings at once, each pair of them as a cell with its number."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from figures.look import COLUMN, ORDER_COLORS, SMALL_SIZE, drawing
from figures.maps.heatmap import draw_color_bar
from figures.tables.numbered_cells import draw_numbered_cells
from figures.text import short_number

CELL = (0.44, 0.26)  # inches


def draw_landscape(ax: Axes, table: pd.DataFrame, *, scale: Normalize, digits: int = 2) -> None:
    """Rows and columns of a table as cells with their numbers; the largest one is bold, nan is gray."""
    best = np.nanmax(table.to_numpy(dtype=np.float64)) if table.notna().any(axis=None) else np.nan
    numbers = table.map(lambda value: f"{value:.{digits}f}")
    draw_numbered_cells(ax, table, numbers, scale=scale, colors=ORDER_COLORS)
    winners = table.to_numpy(dtype=np.float64)[table.notna().to_numpy()] == best
    for text, wins in zip(ax.texts, winners, strict=True):
        text.set_fontweight("bold" if wins else "normal")
    ax.set_xticklabels([short_number(float(name)) for name in table.columns], rotation=0)
    ax.set_yticklabels([short_number(float(name)) for name in table.index], rotation=0)


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
