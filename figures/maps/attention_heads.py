"""One number per head and layer: which heads look far, sharply, or at the same few patches."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from figures.curves.layer_axis import layers_of, set_number_ticks
from figures.curves.quantiles import median_keeping
from figures.look import COLUMN, FULL, SMALL_SIZE, drawing
from figures.maps.heatmap import draw_color_bar, draw_heatmap
from figures.maps.scales import color_scale
from figures.text import label_of, needs_dims, present

HEADS = ("attention_entropy", "stripe_contrast", "rank_one_share", "attention_distance")


def draw_attention_heads(ax: Axes, measurement: xr.DataArray, *, bar: Axes | None = None) -> None:
    """The median over images, a column for each layer and a row for each head; `bar`: axes for the color bar."""
    needs_dims(measurement, "layer", "head", figure="a heat map of heads")
    heads = median_keeping(measurement, ("layer", "head")).transpose("head", "layer")
    scale = color_scale(heads.values)
    draw_heatmap(ax, heads.values, scale=scale, aspect="auto")
    set_number_ticks(ax, "x", layers_of(heads), most=16)
    set_number_ticks(ax, "y", [int(head) for head in heads["head"].values], most=16)
    ax.set(xlabel="layer", ylabel="head")
    ax.set_title(label_of(measurement, log=isinstance(scale, LogNorm), width=44), fontsize=SMALL_SIZE)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if bar is not None:
        draw_color_bar(bar, scale, heads.values)


def attention_heads(dataset: xr.Dataset, variable: str = "", *, title: str = "") -> Figure:
    """Heads × layers of one variable with a `head` dim, the median over images and whatever dims it has besides.

    Without a name, the first there is of attention entropy, stripe contrast, rank-one share, attention distance.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run of `ao.probe`, or a stored one.
    variable : str
        A variable with a dim `head`; the first there is by default.
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
    >>> type(ao.attention_heads(dataset)).__name__
    'Figure'
    """
    name = present(dataset, [variable] if variable else HEADS, figure="the heat map of heads")[0]
    measurement = dataset[name]
    needs_dims(measurement, "layer", "head", figure="a heat map of heads")
    width = min(max(0.17 * measurement.sizes["layer"] + 1.0, COLUMN), FULL)
    height = min(max(0.13 * measurement.sizes["head"] + 0.9, 1.7), 4.0)
    with drawing((width, height), title=title) as figure:
        ax, bar = figure.subplots(1, 2, width_ratios=(width - 1, 0.09))
        draw_attention_heads(ax, measurement, bar=bar)
    return figure
