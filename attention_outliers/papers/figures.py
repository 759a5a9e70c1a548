"""Every measured figure of the papers by name, `paper/fig-n`: gathered from a backbone and images, drawn by figures.

A paper is a file; a figure is a function and a line there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry
from diagnostics.sources import keys_of

if TYPE_CHECKING:
    from attention_outliers.papers.inputs import FigureInputs, PaperFigure

# Paper -> its figures, a table that is written out.
PAPERS = {
    "clearclip": "attention_outliers.papers.clearclip.figures:FIGURES",
    "cliptrase": "attention_outliers.papers.cliptrase.figures:FIGURES",
    "sc-clip": "attention_outliers.papers.sc_clip.figures:FIGURES",
    "sfp": "attention_outliers.papers.sfp.figures:FIGURES",
    "ours": "attention_outliers.papers.ours.figures:FIGURES",
}


def _entries() -> dict[str, str]:
    return {f"{paper}/{name}": f"{table}[{name}]" for paper, table in PAPERS.items() for name in keys_of(table)}


PAPER_FIGURES: Registry[PaperFigure] = Registry("figure", _entries, group="paper_figures", summary="shows")


def paper_figure(name: str) -> PaperFigure:
    """The figure of this name; ValueError with the near one for a name that is not known."""
    return PAPER_FIGURES[name]


__all__ = ["PAPER_FIGURES", "FigureInputs", "PaperFigure", "paper_figure"]

__getattr__, __dir__ = lazy_names(__name__, {"attention_outliers.papers.inputs": ("FigureInputs", "PaperFigure")})
