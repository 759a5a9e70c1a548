"""Profiles of several backbones side by side: histograms of scores with their line, and curves over the layers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from diagnostics.studies.profile import Profile
from figures.curves.layer_axis import set_layer_axis
from figures.curves.several_runs import colors, legend_below, named
from figures.lettering import lines_within
from figures.look import BLUE, FULL, INK, TEXT_SIZE, VERMILION, drawing
from figures.text import short_number

BINS = 60
PANELS = 3  # histograms side by side
PANEL_HEIGHT = 1.75


def shown_layer(profile: Profile) -> int:
    """The layer that is drawn: where outliers stand out most; without any, where the gap comes nearest to one."""
    clearest = profile.facts["clearest_layer"]
    if clearest is not None:
        return int(clearest)
    return int(profile.layers.index[int(profile.layers["width"].argmax())])


def score_histograms(profiles: Mapping[str, Profile], *, title: str = "") -> Figure:
    """The scores of all patches of all images in a layer, one panel a backbone, with the line where there is one.

    Both axes are logarithmic. Scores above the line are red; a panel without a line says so.

    Parameters
    ----------
    profiles : dict of str to Profile
        Profiles by the name of the backbone, as `ao.profile` makes them.
    title : str
        Text above the figure; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        Without profiles, or for one that was read from a file, which has no scores.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> profile = ao.profile(ao.load_backbone("tiny"), scenes, size=64, examine=0)
    >>> len(ao.score_histograms({"tiny": profile}).axes)
    1
    """
    names = named(profiles)
    across = min(PANELS, len(names))
    down = -(-len(names) // across)
    with drawing((FULL, 0.35 + PANEL_HEIGHT * down), title=title) as figure:
        axes = figure.subplots(down, across, squeeze=False)
        for ax, name, profile in zip(axes.flat, names, profiles.values(), strict=False):
            draw_histogram(ax, profile, lines_within(name, FULL / across - 0.6, TEXT_SIZE))
        for ax in axes.flat[len(names) :]:
            ax.remove()
    return figure


def draw_histogram(ax: Axes, profile: Profile, name: str) -> None:
    """One histogram, on logarithmic scales where all scores are above 0."""
    layer = shown_layer(profile)
    values = _scores(profile).sel(layer=layer).values.ravel()
    values = values[np.isfinite(values)]
    threshold = profile.threshold[layer]
    positive = values.min() > 0
    low, high = (
        (values.min(), values.max()) if values.min() < values.max() else (values.min() * 0.9, values.max() * 1.1)
    )
    edges = np.geomspace(low, high, BINS + 1) if positive else np.linspace(low, high, BINS + 1)
    above = values > (np.inf if threshold is None else threshold)
    ax.hist([values[~above], values[above]], bins=list(edges), stacked=True, color=[BLUE, VERMILION], log=True)
    if positive:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(_few_ticks(low, high))
        ax.xaxis.set_major_formatter(lambda value, _: short_number(value, 2))
        ax.xaxis.set_minor_formatter(lambda value, _: "")
    if threshold is not None:
        ax.axvline(threshold, color=INK, linewidth=0.9, linestyle="--")
    line = "no line" if threshold is None else f"line at {threshold:.3g}"
    unit = "norm over the image's median" if profile.facts["detector"] == "relative-norm" else profile.facts["detector"]
    ax.set(xlabel=unit, ylabel="patches")
    ax.set_title(f"{name}\nlayer {layer}, {line}", parse_math=False)


def _few_ticks(low: float, high: float) -> FixedLocator:
    """Three to five places for numbers on a logarithmic axis, also within one decade."""
    steps = np.array([1, 1.5, 2, 3, 5, 7, 10, 20, 30, 50, 100, 200, 500, 1000, 2000, 5000, 10000])
    ticks = np.unique(np.concatenate([steps, 1 / steps]))
    inside = ticks[(ticks >= low) & (ticks <= high)]
    if inside.size < 2:
        inside = np.array([low, high])
    return FixedLocator(list(inside[:: max(1, -(-inside.size // 5))]))


def profile_layer_curves(profiles: Mapping[str, Profile], *, title: str = "") -> Figure:
    """The largest score of an image and the attention that outliers draw, layer by layer, a color for each backbone.

    Left: the largest score, median over images, logarithmic; a filled dot where the layer has a line. Right: the share
    of the patches' attention that goes to the outliers, or to the sinks where there are no outliers; dashed what as
    many patches get by chance.

    Parameters
    ----------
    profiles : dict of str to Profile
        Profiles by the name of the backbone, as `ao.profile` makes them.
    title : str
        Text above the figure; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        Without profiles, or for one that was read from a file, which has no scores.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> profile = ao.profile(ao.load_backbone("tiny"), scenes, size=64, examine=0)
    >>> len(ao.profile_layer_curves({"tiny": profile}).axes)
    2
    """
    names = named(profiles)
    layers = sorted({int(layer) for profile in profiles.values() for layer in profile.layers.index})
    with drawing((FULL, 2.5), title=title) as figure:
        left, right = figure.subplots(1, 2)
        for color, profile in zip(colors(len(names)), profiles.values(), strict=True):
            _draw_largest(left, profile, color)
            _draw_attention(right, profile, color)
        for ax in (left, right):
            set_layer_axis(ax, layers)
        left.set(yscale="log", ylabel="largest score of an image\n(median, log scale)")
        left.yaxis.set_major_formatter(lambda value, _: short_number(value, 2))
        left.yaxis.set_minor_formatter(lambda value, _: "")
        right.set(ylim=(0, 1), ylabel="share of attention that outliers\ndraw (dashed: by chance)")
        legend_below(figure, names)
    return figure


def _draw_largest(ax: Axes, profile: Profile, color: str) -> None:
    largest = _scores(profile).max(("row", "col")).median("image")
    ax.plot(largest["layer"], largest, color=color)
    lined = [layer for layer, threshold in profile.threshold.items() if threshold is not None]
    if lined:
        ax.plot(lined, largest.sel(layer=lined), "o", color=color, markersize=3.5)


def _draw_attention(ax: Axes, profile: Profile, color: str) -> None:
    layers = profile.layers
    if "sink_share" not in layers:
        return
    share = layers["outlier_share"].astype(float).fillna(layers["sink_share"].astype(float))
    ax.plot(layers.index, share, color=color)
    ax.plot(layers.index, layers["by_chance"].astype(float), color=color, linestyle="--", linewidth=0.8)


def _scores(profile: Profile) -> xr.DataArray:
    if profile.scores is None:
        raise ValueError(
            "a profile that was read from a file has no scores to draw; make it from images, or from a stored run: "
            "profile_run(open_run('run.zarr'))."
        )
    return profile.scores["score"]
