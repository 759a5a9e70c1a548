"""PEARL as released: keys rotated onto queries by five polar steps, and the centered keys' own likeness."""

from __future__ import annotations

from segment.encoders.aligned_keys import AlignedKeys
from segment.method import Method, Paper
from segment.methods.sclip import OTHER_SHAPES, PARTIAL_PATCHES

PAPER = Paper(title="PEARL", venue="CVPR 2026", arxiv="2603.21528", code="PGSmall/PEARL c26062b")

METHOD = Method(
    encoder=AlignedKeys(alpha=0.08, rotation="polar", steps=5),
    paper=PAPER,
    summary="keys rotated onto queries (5 polar steps), no residual, no FFN",
    page="pearl",
    departures=(
        OTHER_SHAPES,
        PARTIAL_PATCHES,
        "The release's label propagation is a refiner, `tlp`, that any method can take; the protocol `pearl` has it.",
        "Registers count as the class token does: no weight in the means, keys like all.",
    ),
)
