"""CLIP Surgery: a second stream of v-v attention; segment.scorers.heatmaps has its feature surgery."""

from __future__ import annotations

from segment.encoders.dual_path import DualPath
from segment.method import Method, Paper

METHOD = Method(
    encoder=DualPath(blocks=6, kernel="vv"),
    paper=Paper(
        title="A Closer Look at the Explainability of Contrastive Language-Image Pre-training",
        venue="Pattern Recognition 2025",
        arxiv="2304.05653",
        code="xmed-lab/CLIP_Surgery d4696d4",
    ),
    summary="second stream over the last 6 blocks: v-v attention, no FFN",
    positions="bilinear",
    page="clip-surgery",
    departures=(
        # Deviation: the release writes the stretched position table over the learned one, so a second change of size
        # stretches what was stretched before.
        "The learned position table is stretched anew for each size; the release overwrites it.",
        "Images of any shape; the release takes square ones of 224 or 512 pixels.",
        "No segmentation is released; labels are decoded as SCLIP does, without feature surgery.",
    ),
)
