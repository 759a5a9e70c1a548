"""ResCLIP: attention of middle layers mixed into NACLIP's, and labels by the words fed back into it."""

from __future__ import annotations

from segment.encoders.residual_correlation import ResidualCorrelation
from segment.method import Method, Paper
from segment.methods.sclip import OTHER_SHAPES, PARTIAL_PATCHES

METHOD = Method(
    encoder=ResidualCorrelation(),
    paper=Paper(title="ResCLIP", venue="CVPR 2025", arxiv="2411.15851", code="yvhangyang/ResCLIP 0e085f7"),
    summary="k-k attention with a Gaussian, layers 6-9 mixed in, and the words' layout fed back",
    page="resclip",
    departures=(
        OTHER_SHAPES,
        PARTIAL_PATCHES,
        "The feedback reads the words, so features need them; feedback=false does without.",
        "The default constants are those of COCO-Stuff; the protocol `resclip` has each data set's own.",
        "The release's switches for its two parts are always on, by a slip of its configuration; here they work.",
        "Layers 6-9 at every depth, as released; cross_from and cross_to move them.",
    ),
)
