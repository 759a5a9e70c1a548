"""A figure of measurements, and one for `outliers figure`."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from attention_outliers.papers.inputs import FigureInputs, PaperFigure
from figures import style


def norm_histogram(measurement: Any, *, layer: int = -1, title: str = "") -> Figure:
    """How many patches have which norm, at one layer."""
    with style():
        figure = Figure(figsize=(3.3, 2.4), layout="constrained")
        axes = figure.subplots()
        axes.hist(measurement.isel(layer=layer).values.ravel(), bins=30)
        axes.set(xlabel="norm", ylabel="patches", title=title)
    return figure


def draw(inputs: FigureInputs) -> Figure:
    """The histogram of what is measured."""
    return norm_histogram(inputs.probe("norms")["norm"], title=inputs.backbone.spec)


FIGURE = PaperFigure(draw=draw, shows="how many patches have which norm, by somebody else")
