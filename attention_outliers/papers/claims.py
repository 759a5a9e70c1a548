"""What the figures of the papers claim and what is seen on given backbones and images, in numbers.

A paper is a file; a figure is a function and a line there. Figures that claim nothing that can be counted are not here.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from attention_outliers.papers.claim import Claim
from attention_outliers.papers.clearclip import claims as clearclip
from attention_outliers.papers.cliptrase import claims as cliptrase
from attention_outliers.papers.inputs import Inputs
from attention_outliers.papers.sc_clip import claims as sc_clip
from attention_outliers.papers.sfp import claims as sfp
from figures.text import shortened, without_folders

PAPERS = {"clearclip": clearclip, "cliptrase": cliptrase, "sc-clip": sc_clip, "sfp": sfp}

CLAIMS: dict[str, Callable[[Inputs], list[Claim]]] = {
    f"{paper}/{name}": claim for paper, module in PAPERS.items() for name, claim in module.CLAIMS.items()
}

NAME = 32  # characters of a backbone's name
DIGITS = 3
VERDICTS = {True: "yes", False: "no", None: ""}


def claims_table(name: str, *views: Inputs) -> pd.DataFrame:
    """What a figure claims against what is seen, a row for each number: means over the images.

    Columns: what the paper says, then for each of the views (backbones and images) the number and whether it is as
    claimed; `""` where the paper gives no rule for it. Empty for a figure that claims no number, or none that can be
    had without labels or words where the views lack them.
    """
    papers: dict[str, str] = {}
    columns: dict[tuple[str, str], dict[str, float | str]] = {}
    for view in views:
        spec = shortened(without_folders(view.backbone.spec), NAME)
        for one in CLAIMS[name](view) if name in CLAIMS else []:
            papers[one.measured] = papers.get(one.measured) or one.paper
            number = one.here if isinstance(one.here, str) else float(f"{one.here:.{DIGITS}g}")
            columns.setdefault((spec, "seen"), {})[one.measured] = number
            columns.setdefault((spec, "as claimed"), {})[one.measured] = VERDICTS[one.holds]
    table = pd.DataFrame({("", "the paper"): papers} | columns, index=list(papers), dtype=object)
    return table.rename_axis(f"{name}: measured").fillna("")


__all__ = ["CLAIMS", "Claim", "claims_table"]
