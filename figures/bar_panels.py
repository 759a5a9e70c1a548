"""Groups of bars, a panel for each quantity: what each of several settings gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.labels import short_number
from figures.style import FULL, PALETTE, SMALL_SIZE, drawing

PANEL_HEIGHT = 2.0  # inches
MOST_NUMBERS = 12  # bars of a panel that have their number above them


def draw_bars(ax: Axes, table: pd.DataFrame, *, ylabel: str) -> None:
    """A group for each row, a bar for each column in its colour; a value that is nan has none."""
    thick = 0.8 / table.shape[1]
    for place, column in enumerate(table.columns):
        where = np.arange(len(table)) + (place - (table.shape[1] - 1) / 2) * thick
        values = table[column].to_numpy(dtype=np.float64)
        bars = ax.bar(where, values, width=thick * 0.92, color=PALETTE[place % len(PALETTE)], label=str(column))
        if table.size <= MOST_NUMBERS:
            numbers = [short_number(value, 2) if np.isfinite(value) else "" for value in values]
            ax.bar_label(bars, numbers, fontsize=SMALL_SIZE - 1, padding=1)
    ax.set_xticks(range(len(table)), [str(name) for name in table.index])
    ax.tick_params(axis="x", length=0)
    ax.grid(False, axis="x")
    ax.set_ylabel(ylabel)
    ax.margins(y=0.12)
    if table.shape[1] > 1:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=min(table.shape[1], 4), columnspacing=1.0)


def bar_panels(panels: Mapping[str, pd.DataFrame], *, xlabel: str = "", title: str = "") -> Figure:
    """A panel for each table, named after what its axis counts: rows are groups, columns are bars.

    Every table has at least one row and column; values that are nan have no bar.
    """
    if not panels or any(not table.size for table in panels.values()):
        raise ValueError(f"panels of bars should get tables with rows and columns; got {list(panels)}.")
    wide = FULL if len(panels) > 1 or next(iter(panels.values())).size > 6 else FULL / 2
    with drawing((wide, PANEL_HEIGHT + 0.55), title=title) as figure:
        for ax, (name, table) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            draw_bars(ax, table, ylabel=name)
            ax.set_xlabel(xlabel)
            # Settings' names are words, which would run into each other side by side.
            if sum(len(str(label)) + 2 for label in table.index) > wide / len(panels) * 14:
                ax.tick_params(axis="x", labelrotation=30)
                for label in ax.get_xticklabels():
                    label.set(ha="right", rotation_mode="anchor")
    return figure
