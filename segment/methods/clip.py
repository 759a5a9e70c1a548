"""Dense CLIP as it is: the stock forward, every patch projected like the class token."""

from __future__ import annotations

from segment.encoders.last_block import LastBlock
from segment.method import Method, Paper
from segment.methods.sclip import OTHER_SHAPES, PARTIAL_PATCHES

METHOD = Method(
    encoder=LastBlock(),
    paper=Paper(title="CLIP", venue="ICML 2021", arxiv="2103.00020", code="wangf3014/SCLIP b56bd30, csa off"),
    summary="the stock forward: q-k attention, residual and FFN kept",
    page="clip",
    departures=(OTHER_SHAPES, PARTIAL_PATCHES),
)
