"""SC-CLIP as printed: Eq 3-6, the textbook local outlier factor, and the last layer as decoder of a second pass."""

from __future__ import annotations

from diagnostics.detectors.lof import LocalOutlierFactor
from diagnostics.purifiers.neighbor_mean import NeighborMean
from segment.encoders.self_calibrate import SelfCalibrated
from segment.method import Method
from segment.methods.sc_clip import PAPER

METHOD = Method(
    encoder=SelfCalibrated(
        # The paper names LOF without its number of neighbors: 30 is a comment of the first release, 74471da.
        detector=LocalOutlierFactor(neighbors=30),
        count=10,  # Sec 4.3, Table 3; supplement, Sec 6 for L/14
        purifier=NeighborMean(isolated="keep"),  # Eq 3; a patch without a valid neighbor: our choice, as released
        purify_pre=False,  # Sec 3.2 purifies the penultimate layer only
        beta=0.4,  # supplement, Sec 6
        kernel="kk",
        terms="sum",  # Eq 6
        gate_shift=0.0,  # Eq 6 has the similarity itself, neither centered nor scaled
        gate_scale=1.0,
        second_branch="full",
        class_share=0.0,  # not in the paper
    ),
    paper=PAPER,
    summary="Eq 3-6 as printed: textbook LOF, softmax(KK) + softmax(Simi), no class token, two passes",
    page="sc-clip",
    departures=(
        "LOF has 30 neighbors, as in a comment of the first release; the paper gives no number.",
        "The number of anomaly tokens is 10 for every grid, as printed for B/16 and L/14.",
        "Eq 6 writes softmax(KK^T); the 1/sqrt(d) of attention is kept, per head.",
        "Eq 6 does not say which middle layer its similarity is from: it is the one of the pre-adjustment, before the "
        "cut at beta, with negatives masked (supplement, Sec 6).",
        "Negatives are masked without ProxyCLIP's centering, which the paper refers to but does not print: "
        "gate_shift=1.2,gate_scale=3 has it.",
        "The second pass takes the sum of the fused layers, is not purified and not pre-adjusted, and is added to the "
        "first before the post-adjustment; the paper says only that the last layer decodes both.",
        "The row sum of Eq 5 has 1e-6 added, as released.",
        "The class token is neither key nor value in the last layer, since Simi in Eq 6 is N x N.",
        "Other depths than 12 and 24: layers on the line through those (our choice).",
    ),
)
