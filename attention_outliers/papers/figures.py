"""Every measured figure of the papers by name, `paper/fig-n`: gathered from a backbone and images, drawn by figures.

A paper is a file; a figure is a function and a line there.
"""

from __future__ import annotations

from attention_outliers.papers.clearclip import figures as clearclip
from attention_outliers.papers.cliptrase import figures as cliptrase
from attention_outliers.papers.inputs import Inputs, PaperFigure
from attention_outliers.papers.ours import figures as ours
from attention_outliers.papers.sc_clip import figures as sc_clip
from attention_outliers.papers.sfp import figures as sfp
from diagnostics.registry import unknown_name

PAPERS = {"clearclip": clearclip, "cliptrase": cliptrase, "sc-clip": sc_clip, "sfp": sfp, "ours": ours}

CATALOGUE: dict[str, PaperFigure] = {
    f"{paper}/{name}": figure for paper, module in PAPERS.items() for name, figure in module.FIGURES.items()
}


def paper_figure(name: str) -> PaperFigure:
    """The figure of this name; ValueError with the near one for a name that is not known."""
    if name not in CATALOGUE:
        raise unknown_name("figure", name, CATALOGUE)
    return CATALOGUE[name]


__all__ = ["CATALOGUE", "Inputs", "PaperFigure", "paper_figure"]
