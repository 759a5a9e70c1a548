"""What removing outliers does to the same-class AUC: a bar for each purifier, with its bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.look import COLUMN, FULL, INK, PALETTE, QUIET, SMALL_SIZE, drawing
from figures.tables.frames import needs_columns, short_specs, spec_in_lines

# The change, the ends of its interval, and its words: at the layer that was purified, or at the last one.
VALUES: dict[Literal["layer", "last"], tuple[str, str, str, str]] = {
    "layer": ("delta_auc", "low", "high", "change of same-class AUC"),
    "last": ("delta_auc_last", "low_last", "high_last", "change of same-class AUC at the last layer"),
}
BAR = 0.135  # inches
MOST_PANELS = 3  # layers side by side


def equal_modes_as_one(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Modes whose numbers are the same throughout as one mode named after all: at the purified layer itself it makes no
    difference whether later blocks see the change."""
    named: list[tuple[list[str], pd.DataFrame]] = []
    for mode in dict.fromkeys(table["mode"].astype(str)):
        rows = table[table["mode"].astype(str) == mode]
        numbers = rows.set_index(["layer", "purifier"])[list(columns)].sort_index()
        for names, first in named:
            if numbers.equals(first.set_index(["layer", "purifier"])[list(columns)].sort_index()):
                names.append(mode)
                break
        else:
            named.append(([mode], rows))
    return pd.concat([rows.assign(mode=" and ".join(names)) for names, rows in named])


def draw_purification_bars(
    ax: Axes, table: pd.DataFrame, purifiers: list[str], modes: list[str], *, at: Literal["layer", "last"] = "layer"
) -> None:
    """One layer's changes: a group for each purifier, the first on top, a bar for each mode, a line at 0.

    Whiskers run from `low` to `high`; none where these are nan, and no bar where the change itself is. Where no token
    was marked, so that nothing can change, words say so.
    """
    *columns, words = VALUES[at]
    thick = 0.8 / len(modes)
    for place, mode in enumerate(modes):
        rows = table[table["mode"].astype(str) == mode].set_index("purifier")
        rows = rows.reindex([name for name in purifiers if name in rows.index])
        where = np.array([purifiers.index(str(name)) for name in rows.index]) + (place - (len(modes) - 1) / 2) * thick
        change, low, high = (rows[name].to_numpy(dtype=np.float64) for name in columns)
        # Not seaborn.barplot, which makes intervals of its own: these come with the table, from pairs of images.
        ax.barh(where, change, height=thick * 0.9, color=PALETTE[place % len(PALETTE)], label=mode)
        known = np.isfinite(change) & np.isfinite(low) & np.isfinite(high)
        ax.hlines(where[known], low[known], high[known], color=INK, linewidth=0.8, label=f"_{mode} interval")
    ax.axvline(0, color=INK, linewidth=0.8)
    if "marked" in table and not table["marked"].any():
        ax.text(0.5, 0.5, "no token was marked", transform=ax.transAxes, ha="center", va="center", fontsize=SMALL_SIZE,
                color=QUIET, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5})  # fmt: skip
    ax.set_yticks(range(len(purifiers)))
    ax.set_ylim(len(purifiers) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(words)


def purification_bars(table: pd.DataFrame, *, at: Literal["layer", "last"] = "layer", title: str = "") -> Figure:
    """Change of the same-class AUC by each purifier, a panel for each layer, bars grouped by mode.

    `table`, from `purification_table`, has a row for each layer, purifier and mode, with `delta_auc` and the ends of
    its interval, `low` and `high`; `at` "last" takes the change at the last layer instead. A panel's layer is the one
    that was purified. Purifiers and modes keep the order of the table, modes without any number are left out, those
    with the same numbers are one bar, and all panels share the axis.

    Parameters
    ----------
    table : pandas.DataFrame
        What `ao.purification_table` gives, of a run with labels.
    at : {"layer", "last"}
        Change at the purified layer, or at the last one.
    title : str
        Text above the figure; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        If what is drawn was not measured.

    Examples
    --------
    >>> import pandas as pd
    >>> import attention_outliers as ao
    >>> row = {"layer": 4, "purifier": "zero", "mode": "propagated", "delta_auc": 0.02, "low": 0.01, "high": 0.03}
    >>> type(ao.purification_bars(pd.DataFrame([row]))).__name__
    'Figure'
    """
    if at not in VALUES:
        raise ValueError(f"`at` should be one of {', '.join(VALUES)}; got {at!r}.")
    needs_columns(table, "layer", "purifier", "mode", *VALUES[at][:-1], figure="bars of purification")
    twice = table.duplicated(["layer", "purifier", "mode"])
    if twice.any():
        first = table.loc[twice].iloc[0]
        raise ValueError(
            f"bars of purification should get one row for each layer, purifier and mode; layer {first['layer']}, "
            f"`{first['purifier']}`, {first['mode']} comes twice. Choose one detector first: table[table['detector'] "
            "== …]."
        )
    layers = sorted(int(layer) for layer in table["layer"].unique())
    known = table[np.isfinite(table[VALUES[at][0]].astype(float))]
    if known.empty:
        raise ValueError(
            f"bars of purification should get a change to draw; `{VALUES[at][0]}` has no number. Give labels."
        )
    purifiers = list(dict.fromkeys(table["purifier"].astype(str)))
    known = equal_modes_as_one(known, VALUES[at][:-1])
    modes = list(dict.fromkeys(known["mode"].astype(str)))
    short = short_specs(purifiers)
    columns = min(len(layers), MOST_PANELS)
    rows = -(-len(layers) // columns)
    panel = max(BAR * len(modes) * len(purifiers) * 1.25, 0.7)
    with drawing((COLUMN + 0.4 if columns == 1 else FULL, rows * (panel + 0.5) + 0.35), title=title) as figure:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for ax in grid.flat[len(layers) :]:
            ax.remove()
        for ax, layer in zip(grid.flat, layers, strict=False):
            draw_purification_bars(ax, known[known["layer"] == layer], purifiers, modes, at=at)
            ax.set_yticklabels([spec_in_lines(short[name], 26) for name in purifiers])
            ax.set_title(f"layer {layer}", fontsize=SMALL_SIZE)
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 4))
    return figure
