"""MaskCLIP: in the last block every patch keeps to its own value."""

from __future__ import annotations

from segment.encoders.last_block import LastBlock
from segment.method import Method, Paper

METHOD = Method(
    encoder=LastBlock(kernel="identity"),
    paper=Paper(title="MaskCLIP", venue="ECCV 2022", arxiv="2112.01071", code="chongzhou96/MaskCLIP 245d31f"),
    summary="identity attention, residual and FFN kept",
    page="maskclip",
    departures=(
        "The release normalizes images by ImageNet's mean and uses GELU; here both are the backbone's own.",
        "Key smoothing and prompt denoising are off in the shipped configurations and are not here.",
    ),
)
