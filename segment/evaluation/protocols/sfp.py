"""SFP's protocol: SC-CLIP's numbers, ADE20K at 384, and «people» for the person in VOC and Cityscapes."""

from __future__ import annotations

from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "Kimsure/SFP 2804f5b, SFP_ICCV/configs/cfg_*.py"

PROTOCOLS_OF_SFP = Protocols(
    summary="SFP: short side 336 (ADE20K 384, Cityscapes 560), windows 224/112, scale 40, 50 or 55",
    known=table(
        "sfp",
        SOURCE,
        {
            "voc20": {},
            "voc21": {"scale": 50.0, "threshold": 0.15, "smallest_area": 0.1},
            "context59": {},
            "context60": {"threshold": 0.15},
            "coco-object": {"scale": 55.0, "threshold": 0.35},
            "coco-stuff": {},
            "ade150": {"size": "short:384"},
            "cityscapes": {"size": "short:560"},
        },
        words="sfp",
    ),
    elsewhere=Protocol(name="sfp", dataset="", source=f"{SOURCE}: what most data sets have in common"),
)
