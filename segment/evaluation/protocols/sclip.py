"""SCLIP's protocol: short side 336, windows of 224 every 112; names with synonyms; scales tuned for background sets."""

from __future__ import annotations

from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "wangf3014/SCLIP b56bd30, configs/cfg_*.py"
LIST = {"words": "sclip"}

PROTOCOLS_OF_SCLIP = Protocols(
    summary="SCLIP: short side 336 (COCO-Stuff 448, Cityscapes 560), windows 224/112, scale 40, 50 or 65",
    known=table(
        "sclip",
        SOURCE,
        {
            "voc20": {},
            "voc21": {"scale": 65.0, "threshold": 0.1, "smallest_area": 0.1},
            "context59": {},
            "context60": {"scale": 50.0, "threshold": 0.1},
            "coco-object": {"scale": 50.0, "threshold": 0.1},
            "coco-stuff": {"size": "short:448"},
            "coco-stuff-10k": {},
            "ade150": {},
            "cityscapes": {"size": "short:560"},
        },
        words="sclip",
    ),
    elsewhere=Protocol(name="sclip", dataset="", source=f"{SOURCE}: what most data sets have in common"),
)
