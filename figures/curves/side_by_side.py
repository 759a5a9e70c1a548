"""The same measurement of several backbones, a panel for each, on one value axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.curves.layer_axis import chosen_layers
from figures.curves.layer_curves import draw_layer_curve
from figures.curves.quantiles import Center
from figures.lettering import backbone_names, lines_within
from figures.look import COLUMN, FULL, SMALL_SIZE, drawing
from figures.maps.channels import FEW_LAYERS, draw_channel_means
from figures.text import present


def curves_side_by_side(
    datasets: Mapping[str, xr.Dataset],
    variable: str,
    *,
    log: bool | None = None,
    title: str = "",
    center: Center = "median",
) -> Figure:
    """One variable layer by layer, a panel for each data set, named after it: center and quartiles, a line per stream.

    The note says whether lines are medians or means, and of how many images. All panels share the value axis.
    Source: ClearCLIP (Lan et al. 2024, arXiv:2407.12442), Fig 4 a and b, which speaks of averages.
    """
    names = backbone_names(datasets)
    with _panels(datasets, variable, title) as (figure, axes):
        for ax, (name, dataset) in zip(axes, datasets.items(), strict=True):
            draw_layer_curve(ax, dataset[variable], log=log, most_ticks=8, center=center)
            ax.set_title(_fitting(names[name], len(datasets)), fontsize=SMALL_SIZE, parse_math=False)
        for ax in axes[1:]:
            ax.set_ylabel("")  # the axis is shared, and so is what it says
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside lower center", ncols=len(handles))
        images = sorted({dataset.sizes.get("image", 1) for dataset in datasets.values()})
        if images[-1] > 1:
            axes[0].set_xlabel(f"layer\nlines: {center} of {' and '.join(map(str, images))} images; bands: middle half")
    return figure


def channels_side_by_side(
    datasets: Mapping[str, xr.Dataset], *, layers: Sequence[int] | None = None, title: str = ""
) -> Figure:
    """Sorted channel means by layer, a panel for each data set: a line that rises at its end has a few channels above
    all others. All panels share the value axis. Source: ClearCLIP (Lan et al. 2024, arXiv:2407.12442), Fig 4 c.
    """
    names = backbone_names(datasets)
    with _panels(datasets, "channel_mean", title) as (figure, axes):
        for ax, (name, dataset) in zip(axes, datasets.items(), strict=True):
            draw_channel_means(ax, dataset["channel_mean"], chosen_layers(dataset, layers, most=FEW_LAYERS))
            ax.set_title(_fitting(names[name], len(datasets)), fontsize=SMALL_SIZE, parse_math=False)
        for ax in axes[1:]:
            ax.set_ylabel("")
    return figure


def _fitting(name: str, panels: int) -> str:
    """A backbone's name in lines that fit over its panel."""
    width = FULL / panels if panels > 1 else COLUMN
    return lines_within(name, width - 0.5, SMALL_SIZE)


@contextmanager
def _panels(datasets: Mapping[str, xr.Dataset], variable: str, title: str) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with a panel for each data set, each of which should have the variable, on one value axis."""
    if not datasets:
        raise ValueError("panels of backbones should get at least one data set; got none.")
    for dataset in datasets.values():
        present(dataset, [variable], figure="panels of backbones")
    with drawing((FULL if len(datasets) > 1 else COLUMN, 2.5), title=title) as figure:
        yield figure, list(figure.subplots(1, len(datasets), squeeze=False, sharey=True)[0])
