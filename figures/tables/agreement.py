"""Do detectors agree? Every two of them as a cell with its number."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from figures.look import COLUMN, FULL, ORDER_COLORS, SMALL_SIZE, drawing
from figures.maps.heatmap import draw_color_bar
from figures.tables.frames import needs_columns, short_specs, table_layers
from figures.tables.numbered_cells import draw_numbered_cells
from figures.text import shortened

# What is drawn: its words, its range, and its colors, which for a correlation are pale at 0.
VALUES: dict[str, tuple[str, tuple[float, float], str]] = {
    "jaccard": ("marked tokens in common (Jaccard)", (0.0, 1.0), ORDER_COLORS),
    "spearman": ("rank correlation of scores (Spearman)", (-1.0, 1.0), "RdBu_r"),
}
CELL, BESIDE = 0.31, 0.75  # inches: a cell at most, and the room for the color bar
LONGEST = 28  # characters of a detector's name


def agreement_matrix(table: pd.DataFrame, layer: int, value: str) -> pd.DataFrame:
    """Detectors by detectors, symmetric, in the order of the table; 1 on the diagonal, nan where the table has none."""
    at_layer = table[table["layer"] == layer]
    specs = list(dict.fromkeys([*at_layer["detector"].astype(str), *at_layer["other"].astype(str)]))
    matrix = pd.DataFrame(np.nan, index=specs, columns=specs)
    for first, second, number in zip(at_layer["detector"], at_layer["other"], at_layer[value], strict=True):
        matrix.loc[str(first), str(second)] = matrix.loc[str(second), str(first)] = number
    for spec in specs:
        matrix.loc[spec, spec] = 1.0
    return matrix


def draw_agreement(
    ax: Axes, matrix: pd.DataFrame, *, scale: Normalize, colors: str = ORDER_COLORS, bar: Axes | None = None
) -> None:
    """A square matrix as cells with their numbers; nan is gray and has none; `bar`: axes for the colors."""
    short = short_specs([str(name) for name in matrix.index])
    names = [shortened(short[str(name)], LONGEST) for name in matrix.index]
    named = matrix.set_axis(names, axis=0).set_axis(names, axis=1)
    numbers = named.map(_number)
    for place in range(len(names)):
        numbers.iat[place, place] = "1"
    draw_numbered_cells(ax, named, numbers, scale=scale, colors=colors, square=True)
    ax.set_xticklabels(names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticklabels(names, rotation=0)
    if bar is not None:
        draw_color_bar(bar, scale, matrix.to_numpy(dtype=np.float64), colors=colors)


def _number(value: float) -> str:
    """Two digits without the 0 before the point; what is 1 or -1 after rounding is whole, and 0 has no sign."""
    text = f"{value:.2f}".replace("0.", ".")
    return {"-.00": ".00", "1.00": "1", "-1.00": "-1"}.get(text, text)


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
