"""LaVG: cut the image into masks first, then name each mask."""

from __future__ import annotations

from segment.encoders.lazy_grounding import LazyGrounding
from segment.method import Method, Paper
from segment.scorers.mask_mean import MaskMean

METHOD = Method(
    encoder=LazyGrounding(),
    scorer=MaskMean(),
    paper=Paper(title="LaVG", venue="ECCV 2024", arxiv="2408.04961", code="dahyun-kang/lavg 2db88e5"),
    summary="SCLIP's features averaged over masks that normalized cuts find among DINO's keys",
    page="lavg",
    departures=(
        "Not compared with outputs of the release: none were at hand.",
        "No conditional random field refines the masks: its usual library, pydensecrf, is no longer maintained.",
        "Masks are cut in each window that the method sees, of 640 pixels on its longer side; windows=whole cuts the "
        "whole image.",
        "Patches of earlier masks leave the graph (`earlier=zeroed` keeps them in it without links).",
        "Which part of a cut is the mask, the floor of the links and when to stop follow TokenCut or are our choice.",
    ),
)
