"""What the figures of the papers claim and what is seen on given backbones and images, in numbers.

A paper is a file; a figure is a function and a line there. Figures that claim nothing that can be counted are not here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from attention_outliers.papers.claim import NO_RULE, Check, Verdict
from attention_outliers.papers.clearclip import claims as clearclip
from attention_outliers.papers.cliptrase import claims as cliptrase
from attention_outliers.papers.figures import paper_figure
from attention_outliers.papers.inputs import FigureInputs
from attention_outliers.papers.sc_clip import claims as sc_clip
from attention_outliers.papers.sfp import claims as sfp
from figures.lettering import backbone_names

PAPERS = {"clearclip": clearclip, "cliptrase": cliptrase, "sc-clip": sc_clip, "sfp": sfp}

CLAIMS: dict[str, Callable[[FigureInputs], list[Check]]] = {
    f"{paper}/{name}": claim for paper, module in PAPERS.items() for name, claim in module.CLAIMS.items()
}

DIGITS = 4
VERDICTS: dict[Verdict, str] = {True: "yes", False: "no", None: "cannot tell", NO_RULE: ""}
IN_WORDS: dict[Verdict, str] = {True: "as claimed", False: "not as claimed", None: "cannot tell"}


def claims_table(name: str, *views: FigureInputs) -> pd.DataFrame:
    """What a figure claims against what is seen, a row for each number: means over the images.

    Columns: what the paper says, then for each of the views (backbones and images) the number and whether it is as
    claimed, or that the numbers cannot tell; `""` where the paper gives no rule for it. Empty for a figure that claims
    no number, or none that can be had without labels or words where the views lack them.
    """
    papers: dict[str, str] = {}
    columns: dict[tuple[str, str], dict[str, float | str]] = {}
    names = backbone_names(view.backbone.spec for view in views)
    for view in views:
        spec = names[view.backbone.spec]
        for check in CLAIMS[name](view) if name in CLAIMS else []:
            papers[check.measured] = papers.get(check.measured) or check.paper
            number = check.value if isinstance(check.value, str) else float(f"{check.value:.{DIGITS}g}")
            columns.setdefault((spec, "seen"), {})[check.measured] = number
            columns.setdefault((spec, "as claimed"), {})[check.measured] = VERDICTS[check.holds]
    table = pd.DataFrame({("", "the paper"): papers} | columns, index=list(papers), dtype=object)
    return table.rename_axis(f"{name}: measured").fillna("")


def claim_lines(name: str, inputs: FigureInputs) -> list[str]:
    """What the paper says of a figure, and below it a line for each number that is seen: its words, the number, what
    the paper has in its place, and whether it is as claimed. A second backbone has lines of its own, without those
    numbers that need words: they were read by the first one's text tower.
    """
    claim = paper_figure(name).claim
    lines = [f"the paper: {claim}"] if claim else []
    if name not in CLAIMS:
        return lines
    views = {inputs.backbone.spec: replace(inputs, second=None)}
    if inputs.second is not None:
        views[inputs.second.spec] = inputs.with_backbone(inputs.second)
    images = f"{len(inputs.images)} image{'s' if len(inputs.images) > 1 else ''}"
    for spec, view in views.items():
        checks = CLAIMS[name](view)
        if checks:
            lines += [f"seen with {inputs.models[spec]}, {images}:", *map(_line, checks)]
        elif claim:
            needs = "its numbers need label maps and words (--labels DIR and --classes, or --scenes N)"
            lines.append(f"seen: {needs}" if inputs.second is None else f"seen with {inputs.models[spec]}: {needs}")
    return lines


def _line(check: Check) -> str:
    """A number beside that of the paper."""
    number = check.value if isinstance(check.value, str) else f"{check.value:.{DIGITS}g}"
    paper = f"; the paper: {check.paper}" if check.paper else ""
    holds = f" ({IN_WORDS[check.holds]})" if check.holds in IN_WORDS else ""
    return f"  {check.measured}: {number}{paper}{holds}"


__all__ = ["CLAIMS", "Check", "claim_lines", "claims_table"]
