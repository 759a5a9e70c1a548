"""A score over one number that is varied, a line for each of several settings."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from figures.labels import short_number
from figures.scales import wants_log
from figures.style import NARROW, PALETTE, drawing


def draw_setting_curves(ax: Axes, table: pd.DataFrame, *, xlabel: str, ylabel: str) -> None:
    """A line for each column over the index; the axis is logarithmic where the index spans more than 30 times."""
    where = table.index.to_numpy(dtype=np.float64)
    for place, column in enumerate(table.columns):
        color = PALETTE[place % len(PALETTE)]
        ax.plot(where, table[column].to_numpy(dtype=np.float64), "o-", markersize=3, color=color, label=str(column))
    if wants_log(where, None):
        ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(where)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(where, [short_number(value) for value in where])
    ax.set(xlabel=xlabel, ylabel=ylabel)


def setting_curves(table: pd.DataFrame, *, xlabel: str, ylabel: str, title: str = "") -> Figure:
    """Columns of a table as lines over its index of numbers, with a legend on the right."""
    if not table.size:
        raise ValueError(f"curves over a setting should get a table with rows and columns; got {table.shape}.")
    with drawing((NARROW[0] + 1.0, NARROW[1]), title=title) as figure:
        ax = figure.subplots()
        draw_setting_curves(ax, table, xlabel=xlabel, ylabel=ylabel)
        ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
