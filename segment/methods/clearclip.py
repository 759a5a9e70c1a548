"""ClearCLIP: q-q attention in the last block, without residual and feed-forward network."""

from __future__ import annotations

from segment.encoders.last_block import LastBlock
from segment.method import Decode, Method, Paper
from segment.methods.sclip import OTHER_SHAPES

METHOD = Method(
    encoder=LastBlock(kernel="qq", residual=False, ffn=False),
    decode=Decode(scale=50),  # the released configurations
    paper=Paper(title="ClearCLIP", venue="ECCV 2024", arxiv="2407.12442", code="mc-lan/ClearCLIP ad68a40"),
    summary="q-q attention, no residual, no FFN",
    page="clearclip",
    departures=(
        "The shipped base configuration says q-k attention; this is the paper, which the code runs as `ClearCLIP`.",
        OTHER_SHAPES,
    ),
)
