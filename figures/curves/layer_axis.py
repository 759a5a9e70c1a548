"""The axis of layers: numbered 1…L as the papers count, with as many numbers as there is room for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator


def layers_of(data: xr.DataArray | xr.Dataset) -> list[int]:
    """The layers that were measured."""
    return [int(layer) for layer in data["layer"].values]


def ticks_among(numbers: Sequence[int], most: int) -> list[int]:
    """At most `most` of the numbers, evenly spaced but for the ends, the first and last always among them.

    1…24 at most 8 -> 1, 4, 8, 12, 16, 20, 24: multiples of a round step, none so near an end that labels would touch.
    """
    numbers = sorted(numbers)
    if len(numbers) <= most:
        return numbers
    first, last = numbers[0], numbers[-1]
    for step in (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 50, 100):
        inner = [n for n in numbers if n % step == 0 and n - first > step / 2 and last - n > step / 2]
        if len(inner) + 2 <= most:
            return [first, *inner, last]
    return [first, last]


def some_layers(layers: Sequence[int], most: int) -> list[int]:
    """At most `most` of the layers, evenly spaced, the first and last among them."""
    places = np.unique(np.linspace(0, len(layers) - 1, min(most, len(layers))).round().astype(int))
    return [layers[place] for place in places]


def chosen_layers(data: xr.DataArray | xr.Dataset, layers: Sequence[int] | None, *, most: int) -> list[int]:
    """The layers asked for, negative ones counted from the end; `most` evenly spaced ones where none are asked for."""
    known = layers_of(data)
    if layers is None:
        layers = some_layers(known, most)
    chosen = []
    for layer in layers:
        counted = known[-1] + 1 + layer if layer < 0 else layer
        if counted not in known:
            raise ValueError(f"`layers` should be among the measured {known}, or count from the end; got {layer}.")
        chosen.append(counted)
    if not chosen:
        raise ValueError(f"`layers` should name at least one of {known}; got none.")
    return chosen


def set_layer_axis(ax: Axes, layers: Sequence[int], *, most: int = 12) -> None:
    """Integer ticks on the x axis at the layers, a label at `most` of them, and some room on both sides."""
    shown = ticks_among(layers, most)
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(FixedLocator([layer for layer in layers if layer not in shown]))
    room = 0.03 * (max(layers) - min(layers)) or 0.5
    ax.set_xlim(min(layers) - room, max(layers) + room)
    ax.set_xlabel("layer")


def set_number_ticks(ax: Axes, axis: str, numbers: Sequence[int], *, most: int) -> None:
    """Ticks of a heat map whose cells 0, 1, 2… stand for `numbers`; `axis` is "x" or "y"."""
    shown = ticks_among(numbers, most)
    where = [list(numbers).index(number) for number in shown]
    ax.set(**{f"{axis}ticks": where, f"{axis}ticklabels": [str(number) for number in shown]})
