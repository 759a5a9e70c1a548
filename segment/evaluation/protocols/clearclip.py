"""ClearCLIP's protocol: short side 448, windows of 448 every 224, scale 50, one word a class."""

from __future__ import annotations

from segment.decoding.windows import Slide
from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "mc-lan/ClearCLIP ad68a40, configs/cfg_*.py"
WINDOWS = Slide(crop=448, stride=224)

PROTOCOLS_OF_CLEARCLIP = Protocols(
    summary="ClearCLIP: short side 448, windows 448/224 (Cityscapes 224/224), scale 50, one word a class",
    known=table(
        "clearclip",
        SOURCE,
        {
            "voc20": {},
            "voc21": {"threshold": 0.5},
            "context59": {},
            "context60": {"threshold": 0.15},
            "coco-object": {"threshold": 0.4},
            "coco-stuff": {},
            "ade150": {},
            "cityscapes": {"windows": Slide(crop=224, stride=224)},
        },
        size="short:448",
        windows=WINDOWS,
        scale=50.0,
        words="clearclip",
    ),
    elsewhere=Protocol(
        name="clearclip",
        dataset="",
        source=f"{SOURCE}: what most data sets have in common",
        size="short:448",
        windows=WINDOWS,
        scale=50.0,
    ),
)
