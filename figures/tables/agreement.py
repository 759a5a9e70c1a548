"""Do detectors agree? Every two of them as a cell with its number."""

from __future__ import annotations

from typing import Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from figures.look import COLUMN, FULL, ORDER_COLORS, SMALL_SIZE, drawing
from figures.maps.heatmap import draw_color_bar, draw_heatmap
from figures.tables.frames import needs_columns, short_specs, table_layers
from figures.text import shortened

# What is drawn: its words, its range, and its colors, which for a correlation are pale at 0.
VALUES: dict[str, tuple[str, tuple[float, float], str]] = {
    "jaccard": ("marked tokens in common (Jaccard)", (0.0, 1.0), ORDER_COLORS),
    "spearman": ("rank correlation of scores (Spearman)", (-1.0, 1.0), "RdBu_r"),
}
CELL, BESIDE = 0.31, 0.75  # inches: a cell at most, and the room for the color bar
LONGEST = 28  # characters of a detector's name
DARK = 0.5  # luminance below which a number is white


def agreement_matrix(table: pd.DataFrame, layer: int, value: str) -> pd.DataFrame:
    """Detectors by detectors, symmetric, in the order of the table; 1 on the diagonal, nan where the table has none."""
    here = table[table["layer"] == layer]
    specs = list(dict.fromkeys([*here["detector"].astype(str), *here["other"].astype(str)]))
    matrix = pd.DataFrame(np.nan, index=specs, columns=specs)
    for first, second, number in zip(here["detector"], here["other"], here[value], strict=True):
        matrix.loc[str(first), str(second)] = matrix.loc[str(second), str(first)] = number
    for spec in specs:
        matrix.loc[spec, spec] = 1.0
    return matrix


def draw_agreement(
    ax: Axes, matrix: pd.DataFrame, *, scale: Normalize, colors: str = ORDER_COLORS, bar: Axes | None = None
) -> None:
    """A square matrix as cells with their numbers; nan is gray and has none; `bar`: axes for the colors."""
    values = matrix.to_numpy(dtype=np.float64)
    draw_heatmap(ax, values, scale=scale, colors=colors)
    shades = matplotlib.colormaps[colors](scale(values))[..., :3]
    luminance = shades @ np.array([0.2126, 0.7152, 0.0722])  # Rec. 709
    for row, col in np.argwhere(np.isfinite(values)).tolist():
        number = f"{values[row, col]:.2f}".replace("0.", ".") if row != col else "1"
        # One that is 1 or -1 after rounding is whole, and what rounds to 0 has no sign.
        number = {"-.00": ".00", "1.00": "1", "-1.00": "-1"}.get(number, number)
        ink = "white" if luminance[row, col] < DARK else "black"
        ax.text(col, row, number, ha="center", va="center", fontsize=SMALL_SIZE - 1, color=ink)
    short = short_specs([str(name) for name in matrix.index])
    names = [shortened(short[str(name)], LONGEST) for name in matrix.index]
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if bar is not None:
        draw_color_bar(bar, scale, values, colors=colors)


def agreement(
    table: pd.DataFrame, *, layer: int, value: Literal["jaccard", "spearman"] = "jaccard", title: str = ""
) -> Figure:
    """Agreement of every two detectors at a layer, from `agreement_table`, in the order of the table.

    `jaccard` runs from 0 to 1, `spearman` from -1 to 1. The diagonal is 1 by definition; gray without a number where
    neither of two detectors marks anything.

    Parameters
    ----------
    table : pandas.DataFrame
        What `ao.agreement_table` gives.
    layer : int
        The layer, 1…L.
    value : {"jaccard", "spearman"}
        Agreement of marks, or of ranks.
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
    >>> type(ao.agreement(ao.agreement_table(scores), layer=int(scores["layer"][-1]))).__name__
    'Figure'
    """
    if value not in VALUES:
        raise ValueError(f"`value` should be one of {', '.join(VALUES)}; got {value!r}.")
    needs_columns(table, "detector", "other", "layer", value, figure="the agreement of detectors")
    (layer,) = table_layers(table, [layer], most=1)
    matrix = agreement_matrix(table, layer, value)
    words, (low, high), colors = VALUES[value]
    name = 0.055 * min(max(len(spec) for spec in short_specs(list(matrix.index)).values()), LONGEST)
    side = min(CELL * len(matrix), FULL - name - BESIDE)
    size = (max(side + name + BESIDE, COLUMN), side + 0.75 * name + 0.5)
    with drawing(size, title=title) as figure:
        ax, bar = figure.subplots(1, 2, width_ratios=(side, 0.09))
        draw_agreement(ax, matrix, scale=Normalize(low, high), colors=colors, bar=bar)
        ax.set_title(f"layer {layer}: {words}", fontsize=SMALL_SIZE)
    return figure
