"""How alike the features of any two layers are: where a network turns."""

from __future__ import annotations

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from figures.curves.layer_axis import layers_of, set_number_ticks
from figures.curves.quantiles import median_keeping
from figures.look import COLUMN, ORDER_COLORS, SMALL_SIZE, drawing
from figures.maps.heatmap import draw_color_bar, draw_heatmap
from figures.text import label_of, needs_dims, present


def draw_layer_similarity(ax: Axes, measurement: xr.DataArray, *, bar: Axes | None = None) -> None:
    """The median over images of a similarity in [0, 1]; layer 1 at the bottom left; `bar`: axes for the colors."""
    needs_dims(measurement, "layer", "other_layer", figure="layer similarity")
    similar = median_keeping(measurement, ("layer", "other_layer")).transpose("other_layer", "layer")
    scale = Normalize(0, 1)
    draw_heatmap(ax, similar.values, scale=scale, colors=ORDER_COLORS)
    ax.invert_yaxis()
    set_number_ticks(ax, "x", layers_of(similar), most=12)
    set_number_ticks(ax, "y", [int(layer) for layer in similar["other_layer"].values], most=12)
    ax.set(xlabel="layer", ylabel="layer")
    ax.set_title(label_of(measurement, width=44), fontsize=SMALL_SIZE)
    for spine in ax.spines.values():
        spine.set_visible(False)
    if bar is not None:
        draw_color_bar(bar, scale, similar.values, colors=ORDER_COLORS)


def layer_similarity(dataset: xr.Dataset, *, title: str = "") -> Figure:
    """Layer × layer similarity (`layer_cka`), the median over images; the colors always run from 0 to 1.

    Parameters
    ----------
    dataset : xarray.Dataset
        A run of `ao.probe`, or a stored one.
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
    Kornblith et al. 2019, arXiv:1905.00414.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> dataset = ao.probe(backbone, scenes)
    >>> type(ao.layer_similarity(dataset)).__name__
    'Figure'
    """
    name = present(dataset, ["layer_cka"], figure="layer similarity")[0]
    with drawing((COLUMN, 3.0), title=title) as figure:
        ax, bar = figure.subplots(1, 2, width_ratios=(1, 0.045))
        draw_layer_similarity(ax, dataset[name], bar=bar)
    return figure
