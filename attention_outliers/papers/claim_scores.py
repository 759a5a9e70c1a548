"""What methods score, set against the order in which a paper's table has them."""

from __future__ import annotations

from collections.abc import Sequence

from attention_outliers.papers.claim import NO_RULE, Check, Verdict, verdict
from attention_outliers.papers.inputs import FigureInputs
from attention_outliers.papers.names import method_name
from attention_outliers.papers.printed import row_of

DATASET = "voc20"  # whose numbers are quoted: all the papers have it, without a background class, as drawn scenes


def scorable(inputs: FigureInputs) -> bool:
    """Whether there are labels and words, without which no mIoU is had."""
    return inputs.labels is not None and inputs.text is not None


def printed_score(source: str, method: str) -> float | None:
    """What the source prints for the method, in per cent; None where it has no such row or column."""
    try:
        return row_of(source, method).get(DATASET)
    except KeyError:
        return None


def method_scores(inputs: FigureInputs, methods: Sequence[str], source: str) -> list[Check]:
    """mIoU of methods over all images, beside those that a source prints for PASCAL VOC without background.

    As claimed: above or below the method before it, as the source has it; it can't be told where the 95 % interval of
    their difference over resampled images holds 0. Nothing without labels or words.
    """
    if not scorable(inputs):
        return []
    scores, claims = inputs.scored(list(methods)), []
    former: tuple[float, float, str] | None = None
    for method in methods:
        value, printed = scores[method], printed_score(source, method)
        holds: Verdict = NO_RULE
        if printed is not None and former is not None:
            holds = verdict((value > former[0]) == (printed > former[1]), value, former[0])
            holds = holds if inputs.are_apart(former[2], method) else None
        paper = "" if printed is None else f"{printed} (VOC20)"
        claims.append(Check(measured=f"mIoU of {method_name(method)}, per cent", paper=paper, value=value, holds=holds))
        former = former if printed is None else (value, printed, method)
    return claims
