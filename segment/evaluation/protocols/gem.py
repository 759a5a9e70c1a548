"""GEM's protocol, as far as it is known: images stretched to 448, one sentence, one threshold."""

from __future__ import annotations

from segment.decoding.windows import Whole
from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "WalBouss/GEM 5fa677c, and its issue 5, since the evaluation itself is not released"
UNKNOWN = (
    "No evaluation code is released: labels are scored at the original size as all others do (our choice).",
    "The threshold of background sets, 0.85, is named by the authors in their issue 5.",
)
COMMON = Protocol(
    name="gem",
    dataset="",
    source=SOURCE,
    departures=UNKNOWN,
    size="448",
    resampling="bicubic",  # our choice: the filter of CLIP's own preprocessing
    windows=Whole(),
    templates="photo",
    scale=100.0,
    positions="bicubic-antialiased",
)

PROTOCOLS_OF_GEM = Protocols(
    summary="GEM: stretched to 448x448, «a photo of a …», scale 100, threshold 0.85 where there is a background",
    known=table(
        "gem",
        SOURCE,
        {
            "voc20": {},
            "voc21": {"threshold": 0.85, "words": "clearclip"},
            "context59": {},
            "context60": {"threshold": 0.85, "words": "clearclip"},
            "coco-object": {"threshold": 0.85, "words": "clearclip"},
            "coco-stuff": {},
            "ade150": {},
            "cityscapes": {},
        },
        departures=(*UNKNOWN, "The class names are not released; ClearCLIP's are taken for background sets."),
        size=COMMON.size,
        resampling=COMMON.resampling,
        windows=COMMON.windows,
        templates=COMMON.templates,
        scale=COMMON.scale,
        positions=COMMON.positions,
    ),
    elsewhere=COMMON,
)
