"""How many tokens each threshold marks, detector by detector, and where the published threshold sits."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator, SymmetricalLogLocator

from figures.look import FULL, ORDER_COLORS, SMALL_SIZE, VERMILION, drawing
from figures.maps.scales import wants_log
from figures.tables.frames import needs_columns, short_specs, spec_in_lines, table_layers
from figures.text import short_number

MOST_LAYERS = 4  # lines when no layer is asked for
COLUMNS = 4
LEAST_TOKENS = 0.1  # tokens an image below which the y axis is linear, so that 0 has a place


def layer_colors(layers: list[int]) -> dict[int, tuple[float, ...]]:
    """A color for each layer, from dark to light: layers are an order. The lightest would not be seen on white."""
    shades = np.linspace(0, 0.8, len(layers)) if len(layers) > 1 else [0.2]
    return dict(zip(layers, map(tuple, matplotlib.colormaps[ORDER_COLORS](shades)), strict=True))


def with_own_point(sweep: pd.DataFrame, rule: pd.DataFrame) -> pd.DataFrame:
    """One layer's sweep by ascending threshold, with the detector's own threshold among them if it fits the curve.

    Its rule may be more than a threshold, such as a candidate's limit: then its tokens do not lie between those of the
    thresholds beside it, and it is left out.
    """
    sweep = sweep.sort_values("threshold")
    rule = rule[np.isfinite(rule["threshold"].astype(float))]
    if rule.empty:
        return sweep
    threshold, tokens = float(rule["threshold"].iloc[0]), float(rule["tokens"].iloc[0])
    before, after = (
        sweep.loc[there, "tokens"] for there in (sweep["threshold"] <= threshold, sweep["threshold"] > threshold)
    )
    fits = before.min() >= tokens if before.size else True
    fits &= after.max() <= tokens if after.size else True
    return pd.concat([sweep, rule.iloc[:1]]).sort_values("threshold", kind="stable") if fits else sweep


def draw_threshold_sweep(ax: Axes, table: pd.DataFrame, layers: list[int], *, log: bool | None = None) -> None:
    """One detector's tokens per image over its threshold, a line for each layer.

    Its own threshold is a dashed line with its number, and a dot on each layer tells how many tokens its own rule
    marks; a detector with a quota has no such line, and a dotted level in place of the dot. `log` decides about the x
    axis; None leaves it to the range of the thresholds.
    """
    colors = layer_colors(layers)
    is_own = table["own"].astype(bool)
    sweep, rule = table[~is_own], table[is_own]
    for layer in layers:
        line = with_own_point(sweep[sweep["layer"] == layer], rule[rule["layer"] == layer])
        ax.plot(line["threshold"], line["tokens"], color=colors[layer], label=f"layer {layer}")
    thresholds = rule["threshold"].to_numpy(dtype=np.float64)
    threshold = thresholds[0] if thresholds.size else np.nan
    swept = sweep.loc[sweep["layer"].isin(layers), "threshold"].to_numpy(dtype=np.float64)
    if wants_log(np.append(swept, threshold), log):
        ax.set_xscale("log", nonpositive="clip")
        ax.xaxis.set_major_locator(LogLocator(numticks=5))
        ax.xaxis.set_minor_locator(NullLocator())
    for place, layer in enumerate(layers):
        tokens = rule.loc[rule["layer"] == layer, "tokens"]
        if not tokens.size:
            continue
        if np.isfinite(threshold):
            # Dots of layers that agree stand around each other.
            size = 3.2 + 1.2 * (len(layers) - 1 - place)
            ax.plot([threshold], tokens.iloc[:1], "o", markersize=size, color=colors[layer], markeredgecolor="white",
                    markeredgewidth=0.4)  # fmt: skip
        else:
            ax.axhline(tokens.iloc[0], color=colors[layer], linestyle=":", linewidth=0.9)
    if np.isfinite(threshold):
        ax.axvline(threshold, color=VERMILION, linestyle="--", linewidth=0.9, zorder=1.5)
        note = short_number(threshold)
    else:
        note = "own rule"
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}
    ax.text(0.98, 0.96, note, transform=ax.transAxes, ha="right", va="top", fontsize=SMALL_SIZE, color=VERMILION,
            bbox=paper)  # fmt: skip


def threshold_sweep(
    table: pd.DataFrame, *, layer: int | None = None, log: bool | None = None, title: str = ""
) -> Figure:
    """Tokens per image against the threshold, from `threshold_table`: a panel for each detector.

    The detector's own threshold is a dashed line, with its number; a dot marks what its own rule finds. `layer`: at
    most 4 lines by default. `log`: None puts a log scale under thresholds whose range asks for it. All panels share
    the y axis, which is logarithmic down to 0.1 token an image and linear below.

    Parameters
    ----------
    table : pandas.DataFrame
        What `ao.threshold_table` gives.
    layer : int or None
        One layer alone; at most four by default.
    log : bool or None
        Logarithmic axis of thresholds; None decides by their range.
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
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> type(ao.threshold_sweep(ao.threshold_table(scores))).__name__
    'Figure'
    """
    needs_columns(table, "detector", "layer", "threshold", "own", "tokens", figure="a threshold sweep")
    layers = table_layers(table, None if layer is None else [layer], most=MOST_LAYERS)
    specs = [str(spec) for spec in table["detector"].drop_duplicates()]
    short = short_specs(specs)
    columns = min(COLUMNS, len(specs))
    rows = -(-len(specs) // columns)
    width = FULL * max(columns, 2) / COLUMNS
    most = float(np.nanmax(np.append(table["tokens"].to_numpy(dtype=np.float64), 1.0)))
    with drawing((width, 1.35 * rows + 0.55), title=title) as figure:
        # Not seaborn.FacetGrid, which opens a pyplot figure: ours belong to no window and leave global settings alone.
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for ax in grid.flat[len(specs) :]:
            ax.remove()
        for place, (ax, spec) in enumerate(zip(grid.flat, specs, strict=False)):
            draw_threshold_sweep(ax, table[table["detector"] == spec], layers, log=log)
            ax.set_title(spec_in_lines(short[spec], 28), fontsize=SMALL_SIZE)
            ax.set_yscale("symlog", linthresh=LEAST_TOKENS, linscale=0.5)
            ax.set_ylim(0, 2 * most)
            ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=LEAST_TOKENS))
            ax.yaxis.set_minor_locator(NullLocator())
            if place % columns == 0:
                ax.set_ylabel("tokens per image")
            if place // columns == rows - 1:
                ax.set_xlabel("threshold")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        handles.append(Line2D([], [], color=VERMILION, linestyle="--", linewidth=0.9))
        labels.append("own threshold; dots and dotted levels: own rule")
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure
