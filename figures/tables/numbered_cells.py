"""Tables as cells of color with their numbers, by seaborn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from figures.look import MISSING, SMALL_SIZE, map_colors


def draw_numbered_cells(
    ax: Axes, table: pd.DataFrame, numbers: pd.DataFrame, *, scale: Normalize, colors: str, square: bool = False
) -> None:
    """The table's values as colors, and `numbers` as they are to be read; nan is gray and has none.

    Numbers are dark or light, whichever is seen on their color.
    """
    import seaborn  # takes seconds, and most figures go without

    seaborn.heatmap(
        table.astype(np.float64), annot=numbers.to_numpy(), fmt="", mask=table.isna(), norm=scale,
        cmap=map_colors(colors), cbar=False, square=square, annot_kws={"fontsize": SMALL_SIZE - 1}, ax=ax,
    )  # fmt: skip
    ax.grid(False)
    ax.set_facecolor(MISSING)
    ax.tick_params(length=0)
    ax.set(xlabel="", ylabel="")
