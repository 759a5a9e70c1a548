"""DIH-CLIP as released: SC-CLIP's path without its purification, with the sharpest heads on all values."""

from __future__ import annotations

from diagnostics.purifiers.keep import Keep
from segment.encoders.self_calibrate import SelfCalibrated
from segment.method import Method, Paper
from segment.methods.sclip import OTHER_SHAPES, PARTIAL_PATCHES

METHOD = Method(
    encoder=SelfCalibrated(purifier=Keep(), kernel="kk", terms="mean", second_branch="full", class_share=0.3, heads=4),
    paper=Paper(title="DIH-CLIP", venue="ICCV 2025", code="duan-song/DiH-CLIP 775b609"),
    summary="SC-CLIP's path, no purification: the 4 sharpest heads mix the values of all",
    page="dih-clip",
    departures=(
        OTHER_SHAPES,
        PARTIAL_PATCHES,
        "Other depths than 12: layers as SC-CLIP's, on the line through its two settings (our choice).",
        "The released segmentor expects two results of an encoder that returns one, so it does not run; the encoder "
        "alone does, and is what this equals.",
    ),
)
