"""A method, without released code."""

from __future__ import annotations

from segment import Method
from segment.encoders.last_block import LastBlock
from segment.method import Paper

METHOD = Method(
    encoder=LastBlock(kernel="vv", residual=False, ffn=False),
    paper=Paper(title="Values to values", venue="outside"),
    summary="v-v attention of somebody else",
)
