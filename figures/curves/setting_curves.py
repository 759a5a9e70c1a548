"""A score over one number that is varied, a line for each of several settings."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from figures.look import NARROW, PALETTE, drawing
from figures.maps.scales import wants_log
from figures.text import short_number

MOST_TICKS = 12  # settings that have a tick each
CLOSEST = 0.07  # share of the axis between two ticks, so that their numbers do not touch


def apart(values: np.ndarray, *, log: bool, least: float = CLOSEST) -> list[float]:
    """Values, ascending, at least this share of the axis apart; of two that are closer the first stays."""
    where = np.log(values) if log else values
    span = float(np.ptp(where)) or 1.0
    kept: list[int] = []
    for place in np.argsort(where).tolist():
        if not kept or where[place] - where[kept[-1]] >= least * span:
            kept.append(place)
    return [float(values[place]) for place in kept]


def draw_setting_curves(ax: Axes, table: pd.DataFrame, *, xlabel: str, ylabel: str) -> None:
    """A line for each column over the index; the axis is logarithmic where the index spans more than 30 times.

    Each of the settings has a tick, as far as there is room for its number; of many, round numbers have.
    """
    where = table.index.to_numpy(dtype=np.float64)
    for place, column in enumerate(table.columns):
        color = PALETTE[place % len(PALETTE)]
        ax.plot(where, table[column].to_numpy(dtype=np.float64), "o-", markersize=3, color=color, label=str(column))
    log = wants_log(where, None)
    if log:
        ax.set_xscale("log")
    if len(where) <= MOST_TICKS:
        shown = apart(where, log=log)
        ax.xaxis.set_major_locator(FixedLocator(shown))
        ax.set_xticks(shown, [short_number(value) for value in shown])
    else:
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel=xlabel, ylabel=ylabel)


def setting_curves(table: pd.DataFrame, *, xlabel: str, ylabel: str, title: str = "") -> Figure:
    """Columns of a table as lines over its index of numbers, with a legend on the right.

    Parameters
    ----------
    table : pandas.DataFrame
        Numbers as index, a line for each column.
    xlabel, ylabel : str
        What the axes show, with units.
    title : str
        Text above the figure; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        If the table has no numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> import attention_outliers as ao
    >>> table = pd.DataFrame({"recall": [1.0, 0.5]}, index=[1.0, 3.0])
    >>> type(ao.setting_curves(table, xlabel="threshold", ylabel="share")).__name__
    'Figure'
    """
    if not table.size:
        raise ValueError(f"curves over a setting should get a table with rows and columns; got {table.shape}.")
    with drawing((NARROW[0] + 1.0, NARROW[1]), title=title) as figure:
        ax = figure.subplots()
        draw_setting_curves(ax, table, xlabel=xlabel, ylabel=ylabel)
        ax.legend(loc="center left", bbox_to_anchor=(1.02, 0.5))
    return figure
