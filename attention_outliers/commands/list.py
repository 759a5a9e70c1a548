"""`outliers list`: what there is to choose from. No model is loaded."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer

from attention_outliers.commands.output import Output
from attention_outliers.commands.tables import Table
from attention_outliers.half_precision import changes


def _described(module: str, name: str, title: str) -> Callable[[], Table]:
    """A registry's names with their lines."""

    def listed() -> Table:
        registry = getattr(import_module(module), name)
        return Table(heads=["name", "what it is"], rows=[[*item] for item in registry.describe().items()], title=title)

    return listed


def _measures() -> Table:
    from attention_outliers.commands.definitions import variables_of
    from diagnostics.measures import DEFAULT_MEASURES, MEASURES

    rows = []
    for name, text in MEASURES.describe().items():
        asked = "" if name in DEFAULT_MEASURES else "by name"
        variables = variables_of(MEASURES, name).items()
        named = ", ".join(f"{variable} ({unit})" if unit not in ("", "1") else variable for variable, unit in variables)
        rows.append([name, text, asked, named, changes("measures").get(name, "")])
    heads = ["name", "what it is", "only", "variables (unit)", "bf16 changes"]
    return Table(heads=heads, rows=rows, title="measures; all run by default but those that run only by name")


def _taps() -> Table:
    from diagnostics.tap_places import TAPS

    return Table(
        heads=["name", "shape", "what flows there"],
        rows=[[name, place.shape, place.meaning] for name, place in TAPS.items()],
        title="taps, in the order in which a block passes them",
        caption="B images, T tokens, D width, H heads, d head width, F hidden width",
    )


def _detectors() -> Table:
    from diagnostics.detectors import DETECTORS

    bf16 = changes("detectors")
    rows = [
        [name, text, DETECTORS.facts(name).get("published", ""), bf16.get(name, "")]
        for name, text in DETECTORS.describe().items()
    ]
    heads = ["name", "what it marks", "default threshold", "bf16 changes"]
    return Table(heads=heads, rows=rows, title="detectors of outliers")


def _methods() -> Table:
    from segment.methods import METHODS

    rows = []
    for name, text in METHODS.describe().items():
        paper: dict[str, Any] = METHODS.facts(name).get("paper") or {}
        cited = "; ".join(filter(None, (_cited(paper), paper.get("code"))))
        rows.append([name, text, cited, changes("methods").get(name, "")])
    return Table(heads=["name", "what it does", "paper", "bf16 changes"], rows=rows, title="segmentation methods")


def _cited(paper: dict[str, Any]) -> str:
    return ", ".join(str(paper[key]) for key in ("title", "venue") if paper.get(key))


def figures_table() -> Table:
    """The figures of `outliers figure`, with what they need beyond images."""
    from attention_outliers.papers.figures import PAPER_FIGURES

    rows = []
    for name, line in PAPER_FIGURES.describe().items():
        needs = PAPER_FIGURES.facts(name).get("needs", ())
        rows.append([name, line, " and ".join(needs)])
    return Table(heads=["name", "what it shows", "needs"], rows=rows, title="figures of `outliers figure`")


LISTS: dict[str, Callable[[], Table]] = {
    "backbones": _described("diagnostics.backbones", "BACKBONES", "backbones, by the word before the colon"),
    "measures": _measures,
    "detectors": _detectors,
    "purifiers": _described("diagnostics.purifiers", "PURIFIERS", "purifiers"),
    "edits": _described("diagnostics.edits", "EDITS", "edits inside the forward pass (taps, in Python)"),
    "taps": _taps,
    "positions": _described("diagnostics.backbones", "POSITIONS", "position interpolations"),
    "methods": _methods,
    "windows": _described("segment.decoding.windows", "WINDOWS", "windows over an image"),
    "refiners": _described("segment.decoding.refine", "REFINERS", "refinements of label maps"),
    "templates": _described("segment.text.templates", "TEMPLATES", "sentences around words"),
    "datasets": _described("segment.datasets", "DATASETS", "data sets"),
    "protocols": _described(
        "segment.evaluation.protocols", "PROTOCOLS", "protocols: whose settings a method is scored under"
    ),
    "engines": _described("segment.evaluation.engines", "ENGINES", "engines: who does the work of an evaluation"),
    "figures": figures_table,
    "plots": _described("figures", "FIGURES", "figures of measurements (ao.FIGURES, in Python)"),
}
ALL = "all"


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in (*LISTS, ALL) if kind.startswith(incomplete)]


WhatArgument = Annotated[
    str, typer.Argument(autocompletion=_kinds, help=f"One of: {', '.join(LISTS)}. All of them by default.")
]


def list_parts(
    what: WhatArgument = ALL,
    *,
    show: Output,
) -> None:
    """List what there is to choose from, with one line each.

    Example: outliers list detectors
    """
    if what != ALL and what not in LISTS:
        from diagnostics.registry import unknown_name

        raise unknown_name("list", what, [*LISTS, ALL])
    for kind in LISTS if what == ALL else [what]:
        show.table(kind, LISTS[kind]())
