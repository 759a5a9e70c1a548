"""The channels that carry the outliers: a few that stand above all the others."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from diagnostics.measures.channels import sorted_channel_means
from figures.curves.layer_axis import chosen_layers, layers_of, set_number_ticks
from figures.curves.quantiles import median_keeping, quantile
from figures.look import COLUMN, FULL, NARROW, ORDER_COLORS, SMALL_SIZE, drawing
from figures.maps.heatmap import draw_color_bar, draw_heatmap
from figures.maps.scales import color_scale
from figures.text import label_of, needs_dims, present

FEW_LAYERS = 4
TOP_CHANNELS = 12


def draw_channel_means(ax: Axes, measurement: xr.DataArray, layers: Sequence[int]) -> None:
    """A line for each layer: its channels' means, averaged over images, ascending; layers without values left out.

    Images that lack a value of the layer take no part in its mean.
    """
    needs_dims(measurement, "layer", "channel", figure="channel means")
    colors = matplotlib.colormaps[ORDER_COLORS](np.linspace(0, 0.9, len(layers)))
    for layer, color in zip(layers, colors, strict=True):
        means = measurement.sel(layer=layer).compute()
        if "image" in means.dims:
            means = means.dropna("image")
        if not means.size or means.isnull().any():
            continue
        ordered = sorted_channel_means(means).values
        ax.plot(np.arange(1, ordered.size + 1), ordered, color=color, label=f"layer {layer}")
    ax.set(xlabel="channel, sorted by its mean")
    ax.margins(x=0.02)
    ax.set_ylabel(label_of(measurement, width=32))
    if ax.lines:
        ax.legend(loc="upper left")


def channel_means(dataset: xr.Dataset, *, layers: Sequence[int] | None = None, title: str = "") -> Figure:
    """Sorted channel means by layer (`channel_mean`), averaged over images.

    A line that lies flat and rises at its end has a few channels above all others. `layers`: four evenly spaced by
    default. Source: ClearCLIP (Lan et al. 2024, arXiv:2407.12442), Fig 4 c.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run of `ao.probe`, or a stored one.
    layers : list of int, or None
        Layers 1…L or negative; None takes some, evenly spaced.
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

    Source
    ------
    ClearCLIP (Lan et al. 2024, arXiv:2407.12442), Fig 4 c.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> dataset = ao.probe(backbone, scenes)
    >>> type(ao.channel_means(dataset)).__name__
    'Figure'
    """
    present(dataset, ["channel_mean"], figure="channel means")
    shown = chosen_layers(dataset, layers, most=FEW_LAYERS)
    with drawing(NARROW, title=title) as figure:
        draw_channel_means(figure.subplots(), dataset["channel_mean"], shown)
    return figure


def top_channels(peaks: xr.DataArray, count: int) -> np.ndarray:
    """Numbers of the channels with the largest peak at any layer, the largest first; those without a peak come last."""
    largest = quantile(peaks, 1.0, ["layer"]).fillna(-np.inf)
    return largest["channel"].values[np.argsort(-largest.values, kind="stable")[:count]]


def draw_channel_heatmap(ax: Axes, measurement: xr.DataArray, *, count: int, bar: Axes | None = None) -> None:
    """Peaks of the top channels, a column for each layer and a row for each channel with its number."""
    needs_dims(measurement, "layer", "channel", figure="the heat map of channels")
    peaks = median_keeping(measurement, ("layer", "channel"))
    numbers = top_channels(peaks, count)
    peaks = peaks.sel(channel=numbers).transpose("channel", "layer")
    scale = color_scale(peaks.values)
    draw_heatmap(ax, peaks.values, scale=scale, aspect="auto")
    set_number_ticks(ax, "x", layers_of(peaks), most=16)
    ax.set(yticks=range(len(numbers)), yticklabels=[str(number) for number in numbers])
    ax.set(xlabel="layer", ylabel="channel")
    ax.set_title(label_of(measurement, log=isinstance(scale, LogNorm), width=44), fontsize=SMALL_SIZE)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if bar is not None:
        draw_color_bar(bar, scale, peaks.values)


def channel_heatmap(dataset: xr.Dataset, *, count: int = TOP_CHANNELS, title: str = "") -> Figure:
    """The `count` channels with the largest peaks by layer (`channel_peak`), median over images, with numbers.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run of `ao.probe`, or a stored one.
    count : int
        How many channels, at least 1.
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
    >>> dataset = ao.probe(backbone, scenes)
    >>> type(ao.channel_heatmap(dataset, count=4)).__name__
    'Figure'
    """
    present(dataset, ["channel_peak"], figure="the heat map of channels")
    if count < 1:
        raise ValueError(f"`count` should be at least 1 channel; got {count}.")
    layers = dataset.sizes["layer"]
    width = min(max(0.17 * layers + 1.2, COLUMN), FULL)
    with drawing((width, max(0.14 * min(count, dataset.sizes["channel"]) + 0.9, 1.7)), title=title) as figure:
        ax, bar = figure.subplots(1, 2, width_ratios=(width - 1, 0.09))
        draw_channel_heatmap(ax, dataset["channel_peak"], count=count, bar=bar)
    return figure
