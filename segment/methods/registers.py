"""Test-time registers: register neurons hand what they give to a token of their own, and the stock block follows."""

from __future__ import annotations

from segment.encoders.registers import Registers
from segment.method import Method, Paper

METHOD = Method(
    encoder=Registers(),
    paper=Paper(
        title="Vision Transformers Don't Need Trained Registers",
        venue="NeurIPS 2025",
        code="nickjiang2378/test-time-registers 860df43",
    ),
    page="registers",
    summary="outliers shifted into a register by their neurons, then the stock last block",
    positions=None,
    departures=(
        "Each image has its own largest activation; the release takes that of the first image for the whole batch.",
        "Neurons are found on the first images of a run, or named; the release has lists for its models.",
        "Outliers of the search are 3 x the image's median norm by default, where the release has a number for each "
        "model: norm=30 is that of CLIP B/16.",
        "No segmentation by words is released; features are read as the stock model's.",
    ),
)
