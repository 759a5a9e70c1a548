"""SCLIP: correlative self-attention, q-q and k-k, in the last block."""

from __future__ import annotations

from segment.encoders.last_block import LastBlock
from segment.method import Method, Paper

# What all released codes of SCLIP's line share, ClearCLIP's included. The mark is at diagnostics.backbones.positions.
OTHER_SHAPES = (
    "A grid of as many patches as the model's own, but in another shape, has its positions stretched; the release "
    "takes the table as it is."
)
# The mark is at diagnostics.layout.padding_to_patches.
PARTIAL_PATCHES = "Pixels that fill no patch are padded to a whole one; the release leaves them out."

METHOD = Method(
    encoder=LastBlock(kernel="qq+kk"),
    paper=Paper(title="SCLIP", venue="ECCV 2024", arxiv="2312.01597", code="wangf3014/SCLIP b56bd30"),
    summary="softmax(qq) + softmax(kk), residual and FFN kept",
    page="sclip",
    departures=(OTHER_SHAPES, PARTIAL_PATCHES),
)
