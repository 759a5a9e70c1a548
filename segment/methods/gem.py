"""GEM as its release runs: a second stream of self-self attention, and no attention in the blocks before it.

The release hands its blocks the tokens in the order (T, B, D). open_clip's blocks, since they take (B, T, D), read the
tokens as a batch: before the second stream each token attends to itself alone, or to the same token of the other
images of a batch. The doubled blocks turn the order back. `gem-paper` has the stock attention there, as the release
has with an open_clip from before that change.
"""

from __future__ import annotations

from segment.encoders.dual_path import DualPath
from segment.method import Method, Paper

PAPER = Paper(
    title="Grounding Everything: Emerging Localization Properties in Vision-Language Transformers",
    venue="CVPR 2024",
    arxiv="2312.00878",
    code="WalBouss/GEM 5fa677c",
)
DEPARTURES = (
    "The evaluation protocol is not released; labels are decoded as SCLIP does.",
    "Images keep their shape; the release stretches them to 448x448.",
)

METHOD = Method(
    encoder=DualPath(
        blocks=6,  # `depth=7` of the release covers six blocks
        kernel="qq+kk+vv",
        combine="mean",
        unit=True,
        iterations=1,
        inverse_temperature="norms",
        early="identity",
    ),
    paper=PAPER,
    summary="second stream over the last 6 blocks: (qq + kk + vv) / 3; as released, no attention in the blocks before",
    # The release resamples the position table at its native size as well, which changes nothing there.
    positions="bicubic-antialiased",
    # Deviation: the release mixes the images of a batch in the early blocks.
    page="gem",
    departures=(*DEPARTURES, "Each image is on its own; the release mixes those of a batch in the early blocks."),
)
