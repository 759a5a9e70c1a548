"""SC-CLIP as released: anomaly tokens purified, deep features adjusted by similarity of middle layers, levels fused."""

from __future__ import annotations

from diagnostics.detectors.lof_release import LofRelease
from diagnostics.purifiers.neighbor_mean import NeighborMean
from segment.encoders.self_calibrate import SelfCalibrated
from segment.method import Method, Paper
from segment.methods.sclip import OTHER_SHAPES, PARTIAL_PATCHES

PAPER = Paper(
    title="Self-Calibrated CLIP for Training-Free Open-Vocabulary Segmentation",
    venue="arXiv 2024",
    arxiv="2411.15869",
    code="SuleBai/SC-CLIP 0417ba9",
)

METHOD = Method(
    encoder=SelfCalibrated(
        detector=LofRelease(),
        purifier=NeighborMean(isolated="keep"),
        kernel="kk",
        terms="mean",
        second_branch="full",
        class_share=0.3,
    ),
    paper=PAPER,
    summary="outliers purified by density, features adjusted by layers 9, 4, k-k and similarity attention, two passes",
    page="sc-clip",
    departures=(
        "Images need not be square, and several go in one batch; the release takes single square windows.",
        OTHER_SHAPES,
        PARTIAL_PATCHES,
        "At 24 blocks the layers are the paper's, 17, 7 and 9-20, and the class share is 0.3. The authors' own setting "
        "for L/14, given in comments of 74471da and in their issue 5, is class_share=0.1,fuse_to=19.",
        "Other depths: layers on the line through those at 12 and at 24 blocks (our choice).",
        "Similarity and outlier scores are computed in fp32; the release has fp16 on a GPU.",
        "A patch that no other is similar to attends to itself, where the release gives nan.",
        "The class token of layer L-1 is returned; the release returns patch 0 in its place.",
    ),
)
