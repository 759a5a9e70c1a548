"""Shell completion: the names of parts, also for the last piece of a list such as `norms,ent`; no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def _registry(module: str, name: str) -> Callable[[], Iterable[str]]:
    def names() -> Iterable[str]:
        import importlib

        return list(getattr(importlib.import_module(module), name))

    return names


def names_starting(incomplete: str, names: Iterable[str], *, several: bool = True) -> list[str]:
    """Completions of a text: of its last piece, where it is a list with commas; the pieces before stay."""
    before, comma, piece = incomplete.rpartition(",") if several else ("", "", incomplete)
    taken = set(before.split(","))
    return [f"{before}{comma}{name}" for name in names if name.startswith(piece) and name not in taken]


def completion(names: Callable[[], Iterable[str]], *, several: bool = True) -> Callable[[str], list[str]]:
    """What typer calls with the incomplete text."""

    def complete(incomplete: str) -> list[str]:
        return names_starting(incomplete, names(), several=several)

    return complete


def _figures() -> list[str]:
    from attention_outliers.papers.figures import PAPER_FIGURES

    return ["list", *PAPER_FIGURES]


def _tables() -> list[str]:
    from attention_outliers.papers import experiments

    papers = dict.fromkeys(key.partition("/")[0] for key in experiments())
    return ["list", *papers, *experiments()]


def _with_colon(names: Callable[[], Iterable[str]]) -> Callable[[], list[str]]:
    """Families of backbones: those that take a name end in a colon."""

    def families() -> list[str]:
        alone = {"pocket", "tiny"}
        return [name if name in alone else f"{name}:" for name in names()] + ["pocket:planted"]

    return families


backbones = completion(_with_colon(_registry("diagnostics.backbones", "BACKBONES")), several=False)
positions = completion(_registry("diagnostics.backbones", "POSITIONS"), several=False)
measures = completion(_registry("diagnostics.measures", "MEASURES"))
detectors = completion(_registry("diagnostics.detectors", "DETECTORS"))
purifiers = completion(_registry("diagnostics.purifiers", "PURIFIERS"))
edits = completion(_registry("diagnostics.edits", "EDITS"), several=False)
taps = completion(_registry("diagnostics.tap_places", "TAPS"), several=False)
methods = completion(_registry("segment.methods", "METHODS"))
datasets = completion(_registry("segment.datasets", "DATASETS"))
protocols = completion(_registry("segment.evaluation.protocols", "PROTOCOLS"), several=False)
windows = completion(_registry("segment.decoding.windows", "WINDOWS"), several=False)
refiners = completion(_registry("segment.decoding.refine", "REFINERS"), several=False)
templates = completion(_registry("segment.text.templates", "TEMPLATES"), several=False)
figures = completion(_figures, several=False)
tables = completion(_tables, several=False)
