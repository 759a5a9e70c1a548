"""`outliers demo`: the main job on drawn scenes, without a network: measure, find, purify, segment."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console

from attention_outliers.commands.tables import as_rich


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; the page is OUT/demo/index.html.")] = Path(
        "results"
    ),
    scenes: Annotated[int, typer.Option("--scenes", min=1, help="Scenes on which methods are scored.")] = 100,
) -> None:
    """Show the main job on the model inside the package: measure, find outliers, purify them, segment.

    Needs no network and no data: the scenes are drawn, with labels known to the pixel. Ends with a page of tables and
    images, and one to point at patches.
    """
    from attention_outliers.demo_page import demo_page

    began, console = time.monotonic(), Console()

    def show(table: pd.DataFrame, title: str) -> None:
        console.print(as_rich(table, title=f"\n{title}"))

    page, view = demo_page(out / "demo", scenes, show)
    console.print(
        f"page: {page}\npoint at patches: {view}\n{time.monotonic() - began:.0f} s",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
