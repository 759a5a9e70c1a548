"""Layer curves of several runs or models in one figure: a color for each run, a kind of line for each quantity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from figures.curves.layer_axis import layers_of, set_layer_axis
from figures.curves.quantiles import median, median_keeping, quantile
from figures.lettering import backbone_names, lines_within
from figures.look import PALETTE, QUIET, SMALL_SIZE

LINES: tuple[Literal["-", "--", ":", "-."], ...] = (
    "-",
    "--",
    ":",
    "-.",
)  # of the quantities of one run: its streams, its largest and its median patch
Series = Mapping[str, xr.DataArray]


def named(runs: Mapping[str, object]) -> list[str]:
    """The names of the runs for a legend, backbones without their files; ValueError where there are none."""
    if not runs:
        raise ValueError('a figure of several runs should get at least one of them, {"ViT": …, "DINOv2": …}; got none.')
    return list(backbone_names(runs).values())


def series_of(measurement: xr.DataArray) -> Series:
    """A number for each image and layer, for each stream where there are any."""
    values = median_keeping(measurement, ("image", "layer", "stream"))
    if "stream" not in values.dims:
        return {"": values}
    return {str(stream): values.isel(stream=place, drop=True) for place, stream in enumerate(values["stream"].values)}


def norm_series(norm: xr.DataArray) -> Series:
    """The norm of the largest and of the median patch of each image."""
    return {"largest patch": quantile(norm, 1.0, ("row", "col")), "median patch": median(norm, ("row", "col"))}


def draw_runs(
    ax: Axes, runs: Mapping[str, Series], draw: Callable[..., list[np.ndarray]], *, most_ticks: int = 12
) -> list[np.ndarray]:
    """All series of all runs over one axis of layers; returns what was drawn. `draw` draws one curve."""
    drawn: list[np.ndarray] = []
    kinds = list(dict.fromkeys(kind for series in runs.values() for kind in series))
    for color, (name, series) in zip(colors(len(runs)), runs.items(), strict=True):
        for kind, values in series.items():
            line = LINES[kinds.index(kind) % len(LINES)]
            drawn += draw(ax, values, color=color, line=line, label=f"{name}, {kind}" if kind else name)
    layers = sorted({layer for series in runs.values() for values in series.values() for layer in layers_of(values)})
    set_layer_axis(ax, layers, most=most_ticks)
    return drawn


def colors(count: int) -> list[str]:
    return [PALETTE[place % len(PALETTE)] for place in range(count)]


def legend_below(figure: Figure, names: list[str]) -> None:
    """One legend for the runs of all panels; names that are too long are broken."""
    shown = [lines_within(name, figure.get_figwidth() / max(len(names), 1) - 0.5, SMALL_SIZE) for name in names]
    handles = [Line2D([], [], color=color, label=name) for color, name in zip(colors(len(names)), shown, strict=True)]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))


def legend_of_kinds(ax: Axes, kinds: list[str]) -> None:
    """What the kinds of lines are, in gray: their colors are the runs'."""
    if len(kinds) > 1:
        ax.legend(handles=[
            Line2D([], [], color=QUIET, linestyle=LINES[place % len(LINES)], label=kind)
            for place, kind in enumerate(kinds)
        ])  # fmt: skip
