"""NACLIP: k-k attention leaning to neighbors, without residual and feed-forward network."""

from __future__ import annotations

from segment.encoders.last_block import LastBlock
from segment.method import Method, Paper
from segment.methods.sclip import OTHER_SHAPES, PARTIAL_PATCHES

METHOD = Method(
    encoder=LastBlock(kernel="kk", gaussian=5.0, residual=False, ffn=False),
    paper=Paper(title="NACLIP", venue="WACV 2025", arxiv="2404.08181", code="sinahmr/NACLIP 0cac3a6"),
    summary="k-k attention plus a Gaussian of the distance, no residual, no FFN",
    page="naclip",
    departures=(OTHER_SHAPES, PARTIAL_PATCHES),
)
