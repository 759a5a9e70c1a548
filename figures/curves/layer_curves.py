"""One number per layer, as curves: any measurement alone, or all of a data set on one page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from figures.curves.layer_axis import layers_of, set_layer_axis
from figures.curves.quantiles import Center, center_of, median, median_keeping, quantile
from figures.curves.several_runs import draw_runs, legend_below, legend_of_kinds, named, norm_series, series_of
from figures.look import (
    BLUE,
    FULL,
    GREEN,
    INK,
    NARROW,
    QUIET,
    SMALL_SIZE,
    VERMILION,
    WIDE,
    drawing,
    stream_color,
    stream_label,
)
from figures.maps.scales import wants_log
from figures.text import label_of, needs_dims, present, short_number

# Dims whose median says nothing, and the figure that shows them.
SHOWN_ELSEWHERE = {"rate": "roc_curves", "other_layer": "layer_similarity", "component": "pca_maps"}

# Dims that a curve keeps, and those that it takes the median over, image by image.
KEPT = ("image", "layer", "stream")
REDUCED = ("head", "row", "col", "channel", "query", "prefix", "rank", "token", "key_token")

SUMS = ("block_sum", "X_sum")  # the streams that are the sum of the others
BAND_ALPHA = 0.2
PANEL_HEIGHT = 1.5  # inches
PANEL_COLUMNS = 3
PANEL_TITLE_WIDTH = 40  # characters
PANEL_TICKS = 12

AUC = "AUC of same-class pairs"


def draw_curve(
    ax: Axes,
    values: xr.DataArray,
    *,
    color: str,
    label: str = "",
    line: str = "-",
    over: str = "image",
    center: Center = "median",
) -> list[np.ndarray]:
    """The median, or the mean, over `over` at each layer, with a band between the quartiles; returns what was drawn.

    `values`: (layer) or (`over`, layer). One value per layer has no band; one layer has a bar in place of the band.
    """
    # Not seaborn.lineplot: medians and quartiles are also what tables and claims are made of, from the same functions.
    layers = layers_of(values)
    middle = center_of(values, [over], center).values
    ax.plot(layers, middle, line, color=color, label=label or None, **_markers(layers, line))
    if over not in values.dims or values.sizes[over] < 2:
        return [middle]
    low, high = (quantile(values, q, [over]).transpose("layer").values for q in (0.25, 0.75))
    draw_band(ax, layers, low, high, color=color)
    return [middle, low, high]


def _markers(layers: Sequence[int], line: str = "-") -> dict[str, Any]:
    """Dots at the layers, smaller where they would run into each other or hide the line's own pattern."""
    return {"marker": "o", "markersize": 2.8 if len(layers) <= 16 and line == "-" else 1.8}


def draw_band(ax: Axes, layers: Sequence[int], low: np.ndarray, high: np.ndarray, *, color: str) -> None:
    """A light band from `low` to `high`; a bar where there is only one layer."""
    if len(layers) > 1:
        ax.fill_between(layers, low, high, color=color, alpha=BAND_ALPHA, linewidth=0)
    else:
        ax.vlines(layers, low, high, color=color, alpha=2 * BAND_ALPHA, linewidth=4)


def set_value_axis(ax: Axes, drawn: Sequence[np.ndarray], log: bool | None = None) -> bool:
    """A log y axis with plain numbers where the values span more than 30 times; says whether it is one."""
    values = np.concatenate([np.ravel(part) for part in drawn]) if drawn else np.empty(0)
    if not wants_log(values, log):
        return False
    positive = values[np.isfinite(values) & (values > 0)]
    decades = np.log10(positive.max() / positive.min()) if positive.size else 1.0
    ax.set_yscale("log", nonpositive="mask")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if decades < 2 else (1.0,), numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    ax.yaxis.set_minor_formatter(NullFormatter())
    return True


def check_dims(measurement: xr.DataArray) -> None:
    """ValueError unless there is a `layer`, and for dims whose median says nothing or that no measure has."""
    needs_dims(measurement, "layer", figure="a layer curve")
    for dim, figure in SHOWN_ELSEWHERE.items():
        if dim in measurement.dims:
            raise ValueError(f"a median of `{measurement.name}` over `{dim}` says nothing; draw it with {figure}.")
    if unknown := [str(dim) for dim in measurement.dims if dim not in (*KEPT, *REDUCED)]:
        raise ValueError(
            f"a layer curve should get a measurement with the dims {', '.join((*KEPT, *REDUCED))}; "
            f"`{measurement.name}` has {', '.join(unknown)}, and a median over it would mix what should be compared. "
            f"Choose one by `.sel({unknown[0]}=…)`, or give several by name: layer_curve({{'a': …, 'b': …}})."
        )


def draw_layer_curve(
    ax: Axes,
    measurement: xr.DataArray,
    *,
    log: bool | None = None,
    color: str = BLUE,
    most_ticks: int = 12,
    center: Center = "median",
) -> None:
    """A measurement at each layer: for each image the `center` over the other dims, then `center` and quartiles.

    The line is the median, or the mean, of the images; the band reaches from quartile to quartile. With a `stream` dim,
    one line per stream. `log` None takes a log scale where the drawn values span more than 30 times; the label says so.
    """
    check_dims(measurement)
    values = median_keeping(measurement, ("image", "layer", "stream"), center=center)
    drawn = []
    if "stream" in values.dims:
        for position, stream in enumerate(map(str, values["stream"].values)):
            part = values.isel(stream=position)
            # The sum often lies on the residual stream, which would not be seen below it.
            line = "--" if stream in SUMS else "-"
            drawn += draw_curve(
                ax, part, color=stream_color(stream, position), label=stream_label(stream), line=line, center=center
            )
    else:
        drawn += draw_curve(ax, values, color=color, center=center)
    is_log = set_value_axis(ax, drawn, log)
    if not is_log and np.issubdtype(measurement.dtype, np.integer):
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    set_layer_axis(ax, layers_of(values), most=most_ticks)
    ax.set_ylabel(label_of(measurement, log=is_log, width=34))


def center_label(images: int, center: Center) -> str:
    """What line and band are, for a legend."""
    return f"{center} of {images} images, band: quartiles"


def layer_curve(
    measurement: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    title: str = "",
    log: bool | None = None,
    center: Center = "median",
) -> Figure:
    """One measurement over the layers: median, or `center="mean"`, and quartiles over images, one line per stream.

    `measurement` has a `layer` dim; the center is taken over `head`, `row`, `col`, `channel` and other dims that
    measures have, image by image, and a dim that none has is refused. The legend says which it is, and of how many
    images. Several runs or models, by name, as `{"ViT": a["norm_ratio"], "DINOv2": b["norm_ratio"]}`: a color for
    each, a kind of line for each stream; those are medians.

    Parameters
    ----------
    measurement : xarray.DataArray, or a mapping of names to them
        One variable of a run, with a dim `layer`, such as `dataset["norm_ratio"]`; of several runs by their names.
    title : str
        Text above the figure; empty for none.
    log : bool or None
        Logarithmic axis of values; None decides by their range.
    center : "median" or "mean"
        What the line is, over the images; the band reaches from quartile to quartile.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        If the variable has no layers, or a dim whose median says nothing.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> dataset = ao.probe(backbone, scenes)
    >>> type(ao.layer_curve(dataset["norm_ratio"])).__name__
    'Figure'
    """
    if isinstance(measurement, Mapping):
        return _curves_of_runs(measurement, title=title, log=log)
    needs_dims(measurement, "layer", figure="a layer curve")
    with drawing(NARROW if measurement.sizes["layer"] <= 16 else WIDE, title=title) as figure:
        ax = figure.subplots()
        draw_layer_curve(
            ax, measurement, log=log, center=center, most_ticks=12 if measurement.sizes["layer"] <= 16 else 24
        )
        handles, names = ax.get_legend_handles_labels()
        images = measurement.sizes.get("image", 1)
        if images > 1:
            if handles:
                handles.append(center_patch())
            else:
                handles = [ax.lines[0]]
            names.append(center_label(images, center))
        if handles:
            ax.legend(handles, names)
    return figure


def _curves_of_runs(runs: Mapping[str, xr.DataArray], *, title: str, log: bool | None) -> Figure:
    """The same measurement of several runs in one axes."""
    names = named(runs)
    for measurement in runs.values():
        check_dims(measurement)
    series = {name: series_of(measurement) for name, measurement in zip(names, runs.values(), strict=True)}
    deepest = max(measurement.sizes["layer"] for measurement in runs.values())
    with drawing(NARROW if deepest <= 16 else WIDE, title=title) as figure:
        ax = figure.subplots()
        drawn = draw_runs(ax, series, draw_curve, most_ticks=12 if deepest <= 16 else 24)
        is_log = set_value_axis(ax, drawn, log)
        ax.set_ylabel(label_of(next(iter(runs.values())), log=is_log, width=34))
        legend_of_kinds(ax, list(dict.fromkeys(kind for kinds in series.values() for kind in kinds)))
        legend_below(figure, names)
        images = sorted({measurement.sizes.get("image", 1) for measurement in runs.values()})
        if images[-1] > 1:
            figure.supxlabel(f"Lines: median of {' and '.join(map(str, images))} images; bands: middle half of them.",
                             fontsize=SMALL_SIZE, color=QUIET)  # fmt: skip
    return figure


def center_patch() -> Patch:
    """A band for a legend of several curves."""
    return Patch(color=QUIET, alpha=BAND_ALPHA, linewidth=0)


def draw_norms(ax: Axes, dataset: xr.Dataset) -> None:
    """The norm of the largest and the median patch of an image, and of the class token where there is one.

    Where the largest leaves the median behind, outliers begin.
    """
    norm = dataset["norm"]
    drawn = draw_curve(ax, quantile(norm, 1.0, ("row", "col")), color=VERMILION, label="largest patch")
    drawn += draw_curve(ax, median(norm, ("row", "col")), color=BLUE, label="median patch")
    if "class_norm" in dataset:
        drawn += draw_curve(ax, dataset["class_norm"], color=INK, label="class token", line=":")
    # Always on a log scale: a jump of ten times should look the same in any model.
    is_log = set_value_axis(ax, drawn, any((part > 0).any() for part in drawn))
    set_layer_axis(ax, layers_of(norm), most=PANEL_TICKS)
    ax.set_ylabel(label_of(norm, log=is_log))
    ax.legend()


def draw_head_range(ax: Axes, measurement: xr.DataArray) -> None:
    """The median head at each layer, and a band from the lowest to the highest head; heads are medians of images."""
    heads = median_keeping(measurement, ("layer", "head"))
    layers = layers_of(heads)
    middle = median(heads, ["head"]).values
    low, high = (quantile(heads, q, ["head"]).values for q in (0.0, 1.0))
    ax.plot(layers, middle, "-", color=GREEN, label="median head", **_markers(layers))
    draw_band(ax, layers, low, high, color=GREEN)
    is_log = set_value_axis(ax, [middle, low, high])
    set_layer_axis(ax, layers, most=PANEL_TICKS)
    ax.set_ylabel(label_of(measurement, log=is_log))


def draw_auc(ax: Axes, dataset: xr.Dataset) -> None:
    """AUC of «same class» at each layer: per image with quartiles, and over the pooled pairs of all images."""
    names = present(dataset, ("auc", "auc_pooled"), figure="the AUC panel")
    if "auc" in names:
        draw_curve(ax, dataset["auc"], color=BLUE, label="per image")
    if "auc_pooled" in names:
        draw_curve(ax, dataset["auc_pooled"], color=VERMILION, label="pairs pooled", line="--")
    ax.axhline(0.5, color=QUIET, linewidth=0.8, linestyle=":", label="chance")
    set_layer_axis(ax, layers_of(dataset), most=PANEL_TICKS)
    ax.set_ylabel(AUC)
    ax.legend()


def _draw_plain(ax: Axes, dataset: xr.Dataset, name: str) -> None:
    draw_layer_curve(ax, dataset[name], most_ticks=PANEL_TICKS)
    if "stream" in dataset[name].dims:  # a panel is narrow: a curve may run below the names
        ax.legend(frameon=True, framealpha=0.85, facecolor="white", edgecolor="none", handlelength=1.1)


def _draw_heads(ax: Axes, dataset: xr.Dataset, name: str) -> None:
    draw_head_range(ax, dataset[name])


class Panel(NamedTuple):
    """A panel of the overview: the variables of which one must be there, what draws it, its title.

    Without a title of its own it takes the label of its variable.
    """

    names: tuple[str, ...]
    draw: Callable[[Axes, xr.Dataset, str], None]
    title: str = ""


# In reading order.
PANELS = (
    Panel(("norm",), lambda ax, dataset, name: draw_norms(ax, dataset)),
    Panel(("norm_ratio",), _draw_plain),
    Panel(("norm_outliers",), _draw_plain),
    Panel(("entropy",), _draw_plain),
    Panel(("peak",), _draw_plain),
    Panel(("frobenius",), _draw_plain),
    Panel(("attention_entropy",), _draw_heads),
    Panel(("stripe_contrast",), _draw_heads),
    Panel(("rank_one_share",), _draw_heads),
    Panel(("attention_distance",), _draw_heads),
    Panel(("auc", "auc_pooled"), lambda ax, dataset, name: draw_auc(ax, dataset), AUC),
    Panel(("massive_count",), _draw_plain),
    Panel(("channel_kurtosis",), _draw_plain),
)
LAYER_CURVES = tuple(name for panel in PANELS for name in panel.names)


def layer_overview(dataset: xr.Dataset | Mapping[str, xr.Dataset], *, title: str = "") -> Figure:
    """All layer curves that the data set has, one small panel each; what was not measured is left out.

    Lines are medians over images, bands reach from quartile to quartile; in the panels of attention heads, from the
    lowest to the highest head. A data set without any layer curve raises ValueError. Several runs or models, by
    name, as `{"ViT": a, "DINOv2": b}`: the panels that all of them have, a color for each run.

    Parameters
    ----------
    dataset : xarray.Dataset, or a mapping of names to them
        A run of `ao.probe`, or a stored one; several by their names.
    title : str
        Text above the figure; empty for none.

    Returns
    -------
    matplotlib.figure.Figure
        To be shown, or written by `ao.write_figure`.

    Raises
    ------
    ValueError
        If what is drawn was not measured, or not in all runs.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> dataset = ao.probe(backbone, scenes)
    >>> type(ao.layer_overview(dataset)).__name__
    'Figure'
    """
    if isinstance(dataset, Mapping) and not isinstance(dataset, xr.Dataset):
        return _overview_of_runs(dataset, title=title)
    names = present(dataset, LAYER_CURVES, figure="the overview of layers")
    panels = [panel for panel in PANELS if any(name in names for name in panel.names)]
    columns = min(PANEL_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with drawing((FULL * max(columns, 2) / PANEL_COLUMNS, rows * PANEL_HEIGHT + 0.45), title=title) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for ax in grid.flat[len(panels) :]:
            ax.remove()
        for place, (ax, panel) in enumerate(zip(grid.flat, panels, strict=False)):
            name = next(name for name in panel.names if name in names)
            panel.draw(ax, dataset, name)
            # A panel is too low for a whole label at its side: its title says what is measured.
            ax.set_ylabel("")
            label = label_of(dataset[name], log=ax.get_yscale() == "log", width=PANEL_TITLE_WIDTH)
            ax.set_title(panel.title or label, fontsize=SMALL_SIZE)
            if place + columns < len(panels):
                ax.set_xlabel("")
        figure.supxlabel(_caption(dataset, names), fontsize=SMALL_SIZE, color=QUIET)
    return figure


def _overview_of_runs(runs: Mapping[str, xr.Dataset], *, title: str) -> Figure:
    """A panel for each variable that all runs have; its median head, image or stream for each of them."""
    names = named(runs)
    each = [present(dataset, LAYER_CURVES, figure="the overview of layers") for dataset in runs.values()]
    shared = [name for name in each[0] if all(name in others for others in each)]
    if not shared:
        raise ValueError(f"an overview of several runs should get a variable that all have; got {each}.")
    columns = min(PANEL_COLUMNS, len(shared))
    rows = -(-len(shared) // columns)
    width = FULL * max(columns, 2) / PANEL_COLUMNS
    with drawing((width, rows * PANEL_HEIGHT + 0.7), title=title) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for ax in grid.flat[len(shared) :]:
            ax.remove()
        for place, (ax, variable) in enumerate(zip(grid.flat, shared, strict=False)):
            series_for = norm_series if variable == "norm" else series_of
            series = {name: series_for(dataset[variable]) for name, dataset in zip(names, runs.values(), strict=True)}
            is_log = set_value_axis(ax, draw_runs(ax, series, draw_curve, most_ticks=PANEL_TICKS))
            label = label_of(next(iter(runs.values()))[variable], log=is_log, width=PANEL_TITLE_WIDTH)
            ax.set_title(label, fontsize=SMALL_SIZE)
            legend_of_kinds(ax, list(dict.fromkeys(kind for kinds in series.values() for kind in kinds)))
            if place + columns < len(shared):
                ax.set_xlabel("")
        legend_below(figure, names)
        caption = "Lines: medians over images, of heads the median one; bands: middle half of the images."
        figure.supxlabel(caption, fontsize=SMALL_SIZE, color=QUIET)
    return figure


def _caption(dataset: xr.Dataset, shown: Sequence[str]) -> str:
    """What lines and bands mean."""
    images = dataset.sizes.get("image", 1)
    several = f"Lines: median of {images} images; bands: quartiles."
    sentences = [several if images > 1 else "One image."]
    if any("head" in dataset[name].dims for name in shown):
        sentences.append("Attention: median head; bands: lowest to highest head.")
    return " ".join(sentences)
