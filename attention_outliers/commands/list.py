"""`outliers list`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from diagnostics import BACKBONES, DEFAULT_MEASURES, MEASURES, POSITIONS, TAPS
from diagnostics.registry import unknown_name


def _backbones() -> Table:
    return _described("backbones, by what stands before the colon", BACKBONES.describe())


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
    table.caption = "B images, T tokens, D width, H heads, d head width, F hidden width"
    return table


def _positions() -> Table:
    return _described("position interpolations", POSITIONS.describe())


def _detectors() -> Table:
    from diagnostics.detectors import DETECTORS

    table = _table("detectors of outliers", "name", "what it marks", "default threshold")
    for name, text in DETECTORS.describe().items():
        table.add_row(name, text, DETECTORS[name].published)
    return table


def _purifiers() -> Table:
    from diagnostics.purifiers import PURIFIERS

    return _described("purifiers", PURIFIERS.describe())


def _edits() -> Table:
    from diagnostics.edits import EDITS

    return _described("edits inside the forward pass (taps, in Python)", EDITS.describe())


def _methods() -> Table:
    from segment.methods import METHODS

    table = _table("segmentation methods", "name", "what it does", "paper")
    for name, method in METHODS.items():
        table.add_row(name, method.summary, f"{method.paper.title}, {method.paper.venue}; {method.paper.code}")
    return table


def _windows() -> Table:
    from segment.decoding.windows import WINDOWS

    return _described("windows over an image", WINDOWS.describe())


def _refiners() -> Table:
    from segment.decoding.refine import REFINERS

    return _described("refinements of label maps", REFINERS.describe())


def _templates() -> Table:
    from segment.text.templates import TEMPLATES

    return _described("sentences that words are put into", TEMPLATES.describe())


def _datasets() -> Table:
    from segment.datasets import DATASETS

    return _described("data sets", DATASETS.describe())


def _protocols() -> Table:
    from segment.evaluation.protocols import PROTOCOLS

    return _described("protocols: whose settings a method is scored under", PROTOCOLS.describe())


LISTS = {
    "backbones": _backbones,
    "measures": _measures,
    "detectors": _detectors,
    "purifiers": _purifiers,
    "edits": _edits,
    "taps": _taps,
    "positions": _positions,
    "methods": _methods,
    "windows": _windows,
    "refiners": _refiners,
    "templates": _templates,
    "datasets": _datasets,
    "protocols": _protocols,
}


def list_parts(
    what: Annotated[str, typer.Argument(help=f"One of: {', '.join(LISTS)}. All of them by default.")] = "all",
) -> None:
    """List what there is to choose from, with one line each."""
    if what != "all" and what not in LISTS:
        raise unknown_name("list", what, [*LISTS, "all"])
    console = Console()
    for name, draw in LISTS.items():
        if what in (name, "all"):
            console.print(draw())
            console.print()


def _described(title: str, lines: dict[str, str]) -> Table:
    """Names with their lines."""
    table = _table(title, "name", "what it is")
    for name, text in lines.items():
        table.add_row(name, text)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(columns[0], style="bold cyan", no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, overflow="fold")
    return table
