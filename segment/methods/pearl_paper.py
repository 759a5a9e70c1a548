"""PEARL as printed: keys turned by the exact orthogonal Procrustes rotation."""

from __future__ import annotations

from segment.encoders.aligned_keys import AlignedKeys
from segment.method import Method
from segment.methods.pearl import PAPER

METHOD = Method(
    encoder=AlignedKeys(alpha=0.0, rotation="svd"),
    paper=PAPER,
    summary="keys rotated onto queries exactly, no residual, no FFN",
    page="pearl",
    departures=(
        "R = U·Vᵀ exactly; the paper speaks of a stable polar iteration, and names no number of steps here.",
        "The likeness of the centered keys that the release adds is left out: no description of the paper has it.",
        "From descriptions of the paper: its full text was not at hand.",
        "The protocol `pearl-paper` has the label propagation with the words' affinity as printed.",
    ),
)
