"""What several subcommands print and write at their end, so that it looks the same everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from rich.console import Console

import diagnostics
from diagnostics.backbones.base import Backbone
from diagnostics.images import open_image

if TYPE_CHECKING:  # a plotting library is not loaded until something is drawn
    from matplotlib.figure import Figure


def tell_note(backbone: Backbone) -> None:
    """Prints what has to be known about a backbone before its numbers are believed; nothing for most."""
    if backbone.note:
        Console().print(backbone.note, markup=False, highlight=False, soft_wrap=True)


def write_whole(path: Path, page: str) -> None:
    """Writes a page as a whole or not at all; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def tell_left_out(reasons: Mapping[str, str]) -> None:
    """Prints the images that were left out, or whose label map was; nothing if there are none."""
    if not reasons:
        return
    console = Console()
    console.print(f"[bold yellow]left out ({len(reasons)}):[/bold yellow]")
    for reason in reasons.values():
        console.print(f"  {reason}", markup=False, highlight=False, soft_wrap=True)


def first_images(dataset: xr.Dataset, images: list[str], count: int) -> dict[str, np.ndarray]:
    """The first images of a data set by name, as pixels (h, w, 3), to be drawn beside their maps."""
    paths = diagnostics.image_paths(images)
    return {str(name): np.asarray(open_image(paths[str(name)])) for name in dataset["image"].values[:count]}


def write_figures(figures: Iterable[tuple[str, Figure]], folder: Path, *, source: str) -> int:
    """Writes each figure as PNG and PDF under its name; returns how many there were."""
    from figures.figure_files import SUFFIXES, write

    drawn = 0
    for name, figure in figures:
        # With the suffix: the name of a PNG image would pass for that of a finished file.
        for suffix in SUFFIXES:
            write(figure, folder / f"{name}{suffix}", metadata={"Title": name, "Source": source})
        drawn += 1
    return drawn
