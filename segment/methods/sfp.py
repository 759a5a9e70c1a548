"""SFP as released: SC-CLIP's path with the class token's attention as detector and similarity as second branch."""

from __future__ import annotations

from diagnostics.detectors.som_release import SomRelease
from diagnostics.purifiers.neighbor_mean import NeighborMean
from segment.encoders.self_calibrate import SelfCalibrated
from segment.method import Method, Paper
from segment.methods.sclip import OTHER_SHAPES, PARTIAL_PATCHES

PAPER = Paper(
    title="Feature Purification Matters: Suppressing Outlier Propagation for Training-Free Open-Vocabulary Semantic "
    "Segmentation",
    venue="ICCV 2025",
    code="Kimsure/SFP 2804f5b",
)

METHOD = Method(
    encoder=SelfCalibrated(
        detector=SomRelease(),
        purifier=NeighborMean(isolated="zero"),
        kernel="qq+kk",
        terms="mean",
        gate_thresholded=True,
        second_branch="similarity",
        class_share=0.3,
        depth_rule="fixed",
    ),
    paper=PAPER,
    summary="outliers by class attention purified at layer L-1, q-q, k-k and similarity attention, a similarity branch",
    page="sfp",
    departures=(
        "Images need not be square, and several go in one batch; the release takes single square windows.",
        OTHER_SHAPES,
        PARTIAL_PATCHES,
        "Layers stay 9, 4 and 4-10 at every depth from 12 on, as the release has them written in; depth_rule=line "
        "moves them with the depth, as SC-CLIP does. Below 12 blocks they are on that line (our choice).",
        "Similarity and outlier scores are computed in fp32; the release has fp16 on a GPU.",
        "A patch that no other is similar to, such as one purified to zero, attends to itself, where the release gives "
        "nan.",
        "The accumulated attention, which the release computes and never uses, is left out.",
    ),
)
