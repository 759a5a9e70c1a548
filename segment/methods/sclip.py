"""SCLIP: correlative self-attention, q-q and k-k, in the last block."""

from __future__ import annotations

from segment.encoders.last_block import LastBlock
from segment.method import Method, Paper

METHOD = Method(
    encoder=LastBlock(kernel="qq+kk"),
    paper=Paper(title="SCLIP", venue="ECCV 2024", arxiv="2312.01597", code="wangf3014/SCLIP b56bd30"),
    summary="softmax(qq) + softmax(kk), residual and FFN kept",
)
