"""The look of every figure: sizes, fonts and colors, set only while a figure is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.style
from cycler import cycler
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from figures.lettering import lines_within

# Widths in inches: one column and both columns of a two-column paper on US letter (CVPR, ICCV).
COLUMN = 3.3
FULL = 6.9
NARROW = (COLUMN, 2.4)
WIDE = (FULL, 2.6)

# Color-blind-safe colors. Source: Okabe and Ito 2008, «Color Universal Design»; their yellow is left out, since a
# thin yellow line on white is not seen.
INK = "#000000"
ORANGE, SKY, GREEN = "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, INK)
QUIET = "#8A8A8A"
MISSING = "#D9D9D9"

# One color per stream, the same in all figures. Streams of other names take the rest of the palette.
STREAM_COLORS = {"block_in": VERMILION, "attn_out": GREEN, "block_sum": BLUE}
# The names that ClearCLIP (arXiv:2407.12442) gives to them.
STREAM_NAMES = {"block_in": "X_res", "attn_out": "X_attn", "block_sum": "X_sum"}
STREAM_COLORS |= {name: STREAM_COLORS[stream] for stream, name in STREAM_NAMES.items()}

# Perceptually uniform, and light on the side of large values, where the outliers are.
MAP_COLORS = "magma"
ORDER_COLORS = "viridis"

TEXT_SIZE = 8.0
SMALL_SIZE = 7.0
TITLE_SIZE = 9.0
TITLE_ROOM = 0.15  # inches on both sides of a title together

LOOK: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same figure on every machine
    "font.size": TEXT_SIZE,
    "axes.labelsize": TEXT_SIZE,
    "axes.titlesize": TEXT_SIZE,
    "axes.titlelocation": "left",
    "axes.titlepad": 4.0,
    "axes.labelpad": 2.5,
    "figure.titlesize": TITLE_SIZE,
    "legend.fontsize": SMALL_SIZE,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.handletextpad": 0.5,
    "legend.labelspacing": 0.25,
    "legend.borderaxespad": 0.3,
    "xtick.labelsize": SMALL_SIZE,
    "ytick.labelsize": SMALL_SIZE,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.5,
    "ytick.minor.width": 0.5,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "image.cmap": MAP_COLORS,
    "image.interpolation": "nearest",
    "figure.dpi": 150.0,
    "savefig.dpi": 200.0,
    "pdf.fonttype": 42,  # text in a PDF stays text
    "figure.constrained_layout.w_pad": 0.04,
    "figure.constrained_layout.h_pad": 0.04,
}


@contextmanager
def style() -> Iterator[None]:
    """The look, while the context lasts: matplotlib's defaults with ours on top. Global settings are left alone.

    Yields
    ------
    None
        The style holds inside the `with` block.

    Examples
    --------
    >>> import matplotlib
    >>> import attention_outliers as ao
    >>> before = matplotlib.rcParams["font.size"]
    >>> with ao.style():
    ...     inside = matplotlib.rcParams["font.size"]
    >>> matplotlib.rcParams["font.size"] == before
    True
    """
    with matplotlib.style.context(["default", LOOK]):
        yield


@contextmanager
def drawing(
    size: tuple[float, float] = NARROW, *, title: str = "", layout: str | None = "constrained"
) -> Iterator[Figure]:
    """A new Figure of (width, height) inches, drawn in our style.

    The figure belongs to no window: it has an Agg canvas and pyplot does not know it. `layout` None leaves the axes
    where they are put. A title that is wider than the figure goes on in another line.
    """
    with style():
        figure = Figure(figsize=size, layout=layout or "none")  # type: ignore[arg-type]
        FigureCanvasAgg(figure)
        yield figure
        if title:
            # A file name may hold dollar signs.
            figure.suptitle(lines_within(title, size[0] - TITLE_ROOM, TITLE_SIZE), parse_math=False)
        # matplotlib makes ticks when they are first asked for, with the settings of that moment; later ones are
        # copies of the first. So one of each is made now, while the style is on.
        for ax in figure.axes:
            for axis in (ax.xaxis, ax.yaxis):
                axis.get_major_ticks(1)
                axis.get_minor_ticks(1)


def stream_color(stream: str, position: int = 0) -> str:
    """The stream's own color; a stream that has none takes one from the palette by its position."""
    others = [color for color in PALETTE if color not in STREAM_COLORS.values()]
    return STREAM_COLORS.get(stream, others[position % len(others)])


def stream_label(stream: str) -> str:
    """The stream by both of its names: `block_in (X_res)`; as it is, where it has one."""
    return f"{stream} ({STREAM_NAMES[stream]})" if stream in STREAM_NAMES else stream


def map_colors(name: str = MAP_COLORS) -> Colormap:
    """A sequential color map, with gray where nothing was measured."""
    return matplotlib.colormaps[name].with_extremes(bad=MISSING)
