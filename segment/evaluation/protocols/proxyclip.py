"""ProxyCLIP's protocol: windows of 336 every 112 on short side 336, larger data sets at 448."""

from __future__ import annotations

from segment.decoding.windows import Slide
from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "mc-lan/ProxyCLIP e7b767f, configs/cfg_*.py"
WINDOWS = Slide(crop=336, stride=112)
LARGER = {"size": "short:448"}

PROTOCOLS_OF_PROXYCLIP = Protocols(
    summary="ProxyCLIP: short side 336 (ADE20K, Cityscapes, 459 and 847 classes 448), windows 336/112, scale 40",
    known=table(
        "proxyclip",
        SOURCE,
        {
            "voc20": {},
            "voc21": {"threshold": 0.2},
            "context59": {},
            "context60": {"threshold": 0.15},
            "coco-object": {"threshold": 0.25},
            "coco-stuff": {},
            "ade150": LARGER,
            "cityscapes": {**LARGER, "windows": Slide(crop=224, stride=112)},
            "context459": LARGER,
            "ade847": LARGER,
        },
        windows=WINDOWS,
        words="proxyclip",
    ),
    elsewhere=Protocol(
        name="proxyclip", dataset="", source=f"{SOURCE}: what most data sets have in common", windows=WINDOWS
    ),
)
