"""`outliers list`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from diagnostics import BACKBONES, DEFAULT_MEASURES, MEASURES, POSITIONS, TAPS
from diagnostics.registry import unknown_name


def _backbones() -> Table:
    table = _table("backbones, by what stands before the colon", "name", "what it is")
    for name, text in BACKBONES.describe().items():
        table.add_row(name, text)
    return table


def _measures() -> Table:
    table = _table("measures (* only when asked for by name)", "name", "variables", "unit", "what it is")
    for name, text in MEASURES.describe().items():
        variables = MEASURES[name]().variables
        star = "" if name in DEFAULT_MEASURES else " *"
        units = ", ".join(dict.fromkeys(variable.units for variable in variables))
        table.add_row(name + star, ", ".join(variable.name for variable in variables), units, text)
    return table


def _taps() -> Table:
    table = _table("taps, in the order in which a block passes them", "name", "shape", "what flows there")
    for name, place in TAPS.items():
        table.add_row(name, place.shape, place.meaning)
    table.caption = "B pictures, T tokens, D width, H heads, d head width, F hidden width"
    return table


def _positions() -> Table:
    table = _table("position interpolations", "name", "what it is")
    for name, text in POSITIONS.describe().items():
        table.add_row(name, text)
    return table


def _detectors() -> Table:
    from diagnostics.detectors import DETECTORS

    table = _table("detectors of outliers", "name", "what it marks", "default threshold")
    for name, text in DETECTORS.describe().items():
        table.add_row(name, text, DETECTORS[name].published)
    return table


def _purifiers() -> Table:
    from diagnostics.purifiers import PURIFIERS

    table = _table("purifiers", "name", "what it does")
    for name, text in PURIFIERS.describe().items():
        table.add_row(name, text)
    return table


def _edits() -> Table:
    from diagnostics.edits import EDITS

    table = _table("edits inside the forward pass (taps, in Python)", "name", "what it does")
    for name, text in EDITS.describe().items():
        table.add_row(name, text)
    return table


LISTS = {
    "backbones": _backbones,
    "measures": _measures,
    "detectors": _detectors,
    "purifiers": _purifiers,
    "edits": _edits,
    "taps": _taps,
    "positions": _positions,
}


def list_parts(
    what: Annotated[str, typer.Argument(help=f"One of: {', '.join(LISTS)}. All of them by default.")] = "all",
) -> None:
    """List what there is to choose from: backbones, measures, detectors, purifiers, edits, taps, positions."""
    if what != "all" and what not in LISTS:
        raise unknown_name("list", what, [*LISTS, "all"])
    console = Console()
    for name, draw in LISTS.items():
        if what in (name, "all"):
            console.print(draw())
            console.print()


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(columns[0], style="bold cyan", no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, overflow="fold")
    return table
