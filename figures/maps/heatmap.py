"""Two-dimensional measurements as rectangles of color, with a bar that tells the values."""

from __future__ import annotations

from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage

from figures.look import MAP_COLORS, map_colors
from figures.maps.scales import bar_ticks
from figures.text import short_number

# Where a horizontal color bar says «log»: low numbers are longer than high ones, as 0.0089 and 44.
RIGHT_OF_MIDDLE = 0.61


def draw_heatmap(
    ax: Axes,
    values: np.ndarray,
    *,
    scale: Normalize,
    colors: str = MAP_COLORS,
    aspect: Literal["equal", "auto"] = "equal",
    alpha: float | None = None,
) -> AxesImage:
    """(rows, cols) as cells, row 0 on top, not smoothed; gray where nothing was measured."""
    # Not seaborn.heatmap, which draws a mesh: hundreds of these cells without numbers are one image in a PDF.
    masked = np.ma.masked_invalid(np.asarray(values, dtype=np.float64))
    if isinstance(scale, LogNorm):
        # A log scale has no color for 0; the lowest says what is meant.
        masked = np.ma.maximum(masked, float(scale.vmin or 0))
    ax.grid(False)
    return ax.imshow(masked, norm=scale, cmap=map_colors(colors), aspect=aspect, interpolation="nearest", alpha=alpha)


def draw_color_bar(
    ax: Axes,
    scale: Normalize,
    values: np.ndarray,
    *,
    colors: str = MAP_COLORS,
    orientation: Literal["vertical", "horizontal"] = "vertical",
) -> Colorbar:
    """A color bar that fills `ax`, with numbers at its ends and middle, of as many digits as it takes to differ.

    A horizontal one has numbers at its ends alone, which do not reach beyond it, and says between them if its scale is
    logarithmic. The lowest number has «≤» before it where smaller values share its color. What is measured belongs
    into the title of the map: the bar is often too short for it.
    """
    bar = ax.figure.colorbar(ScalarMappable(scale, map_colors(colors)), cax=ax, orientation=orientation)
    ax.set_label("color bar")
    ticks = bar_ticks(scale)
    if orientation == "horizontal":
        ticks = [ticks[0], ticks[-1]]
    sets = ([short_number(tick, digits) for tick in ticks] for digits in (2, 3, 4, 5, 6))
    names = next((names for names in sets if len(set(names)) == len(ticks)), [f"{tick:g}" for tick in ticks])
    finite = values[np.isfinite(values)]
    if finite.size and finite.min() < ticks[0]:
        names[0] = f"≤{names[0]}"
    if orientation == "horizontal":
        ticks.insert(1, float(scale.inverse(RIGHT_OF_MIDDLE)))
        names.insert(1, "log" if isinstance(scale, LogNorm) else "")
    bar.set_ticks(ticks, labels=names)
    if orientation == "horizontal":
        labels = ax.get_xticklabels()
        labels[0].set_horizontalalignment("left")
        labels[-1].set_horizontalalignment("right")
    bar.minorticks_off()
    bar.outline.set_visible(False)
    return bar
