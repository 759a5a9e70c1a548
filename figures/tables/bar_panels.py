"""Groups of bars, a panel for each quantity: what each of several settings gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.lettering import lines_within
from figures.look import FULL, PALETTE, SMALL_SIZE, TEXT_SIZE, drawing
from figures.text import short_number

PANEL_HEIGHT = 2.0  # inches
MOST_NUMBERS = 12  # bars of a panel that have their number above them
ACROSS = 2  # panels side by side
LETTERS = 14  # of an inch of the axis


def draw_bars(ax: Axes, table: pd.DataFrame, *, ylabel: str, legend: bool = True) -> None:
    """A group for each row, a bar for each column in its color; a value that is nan has none."""
    thick = 0.8 / table.shape[1]
    for place, column in enumerate(table.columns):
        where = np.arange(len(table)) + (place - (table.shape[1] - 1) / 2) * thick
        values = table[column].to_numpy(dtype=np.float64)
        # Not seaborn.barplot, which would average: each of these numbers is one already.
        bars = ax.bar(where, values, width=thick * 0.92, color=PALETTE[place % len(PALETTE)], label=str(column))
        if table.size <= MOST_NUMBERS:
            numbers = [short_number(value, 2) if np.isfinite(value) else "" for value in values]
            ax.bar_label(bars, numbers, fontsize=SMALL_SIZE - 1, padding=1)
    ax.set_xticks(range(len(table)), [str(name) for name in table.index])
    ax.tick_params(axis="x", length=0)
    ax.grid(False, axis="x")
    ax.set_ylabel(ylabel)
    ax.margins(y=0.12)
    if legend and table.shape[1] > 1:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=min(table.shape[1], 4), columnspacing=1.0)


def slant_names(ax: Axes, table: pd.DataFrame, width: float) -> None:
    """Slants the names of the groups where they would run into each other: settings' names are words."""
    if sum(len(str(label)) + 2 for label in table.index) > width * LETTERS:
        ax.tick_params(axis="x", labelrotation=30)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def bar_panels(panels: Mapping[str, pd.DataFrame], *, xlabel: str = "", ylabel: str = "", title: str = "") -> Figure:
    """A panel for each table, rows of which are groups and columns bars; two panels stand side by side.

    A panel's name says what its axis counts, or, with `ylabel`, which says so for all, stands above it; panels then
    share the axis, and the legend if their bars are of the same kinds, and those with more groups are wider. Every
    table has at least one row and column; values that are nan have no bar.
    """
    if not panels or any(not table.size for table in panels.values()):
        raise ValueError(f"panels of bars should get tables with rows and columns; got {list(panels)}.")
    tables = list(panels.values())
    wide = FULL if len(panels) > 1 or tables[0].size > 6 else FULL / 2
    columns = min(len(panels), ACROSS)
    rows = -(-len(panels) // columns)
    shares = [len(table) ** 0.5 if ylabel and rows == 1 else 1.0 for table in tables[:columns]]
    together = bool(ylabel) and all(list(table.columns) == list(tables[0].columns) for table in tables)
    with drawing((wide, rows * (PANEL_HEIGHT + 0.55)), title=title) as figure:
        grid = figure.subplots(rows, columns, squeeze=False, sharey=bool(ylabel), width_ratios=shares)
        for ax in grid.flat[len(panels) :]:
            ax.remove()
        for place, (ax, (name, table)) in enumerate(zip(grid.flat, panels.items(), strict=False)):
            label = lines_within(ylabel or name, PANEL_HEIGHT - 0.3, TEXT_SIZE, most=3)
            draw_bars(ax, table, ylabel=label, legend=not together)
            ax.set_xlabel(xlabel)
            width = wide * shares[place % columns] / sum(shares)
            if ylabel:
                ax.set_title(lines_within(name, width - 0.4, SMALL_SIZE), fontsize=SMALL_SIZE, parse_math=False)
                if place % columns:
                    ax.set_ylabel("")  # the axis is shared, and so is what it counts
            slant_names(ax, table, width)
        handles, names = grid.flat[0].get_legend_handles_labels()
        if together and len(names) > 1:
            figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6), columnspacing=1.0)
    return figure
