"""What several subcommands print and write at their end, so that it looks the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from rich.console import Console

import diagnostics
from diagnostics.backbones.base import Backbone
from diagnostics.images import open_image


def tell_note(backbone: Backbone) -> None:
    """Prints what has to be known about a backbone before its numbers are believed; nothing for most."""
    if backbone.note:
        Console().print(backbone.note, markup=False, highlight=False, soft_wrap=True)


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
