"""`outliers demo`: the main job on drawn scenes, without a network: measure, find, purify, segment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attention_outliers.commands.output import Output
from diagnostics.local_path import local_path

if TYPE_CHECKING:
    import pandas as pd


OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder; the page is OUT/demo/index.html.")]
ScenesOption = Annotated[int, typer.Option("--scenes", min=1, help="Scenes on which methods are scored.")]


def demo(
    *,
    out: OutOption = Path("results"),
    scenes: ScenesOption = 100,
    show: Output,
) -> None:
    """Show the main job on the model inside the package: measure, find outliers, purify them, segment.

    Needs no network and no data: the scenes are drawn, with labels known to the pixel. Ends with a page of tables and
    images, and one to point at patches.

    Example: outliers demo --scenes 20
    """
    from attention_outliers.demo_page import demo_page

    start = time.monotonic()

    def show_table(table: pd.DataFrame, title: str) -> None:
        show.table(title, table, title)

    page, view = demo_page(local_path(out) / "demo", scenes, show_table, progress=show.progress)
    show.path("page", page)
    show.path("point at patches", view)
    show.say(f"{time.monotonic() - start:.0f} s")
