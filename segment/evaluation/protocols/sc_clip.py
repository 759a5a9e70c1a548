"""SC-CLIP's protocol: SCLIP's windows and words, other scales and thresholds; for ViT-L/14 others again."""

from __future__ import annotations

from typing import Any

from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "SuleBai/SC-CLIP 0417ba9, configs/cfg_*.py"
# Comments of commit 74471da and the authors' issue 5.
SOURCE_L14 = "SuleBai/SC-CLIP 74471da, comments in configs and code, and the authors' issue 5"
COMMON = Protocol(name="sc-clip", dataset="", source=f"{SOURCE}: what most data sets have in common")
ROWS: dict[str, dict[str, Any]] = {
    "voc20": {},
    "voc21": {"scale": 50.0, "threshold": 0.15, "smallest_area": 0.1},
    "context59": {},
    "context60": {"threshold": 0.15},
    "coco-object": {"scale": 55.0, "threshold": 0.35},
    "coco-stuff": {},
    "ade150": {},
    "cityscapes": {"size": "short:560"},
}
LARGE: dict[str, dict[str, Any]] = {
    "voc21": {"threshold": 0.2, "smallest_area": 0.1},
    "coco-object": {"threshold": 0.25},
}

PROTOCOLS_OF_SC_CLIP = Protocols(
    summary="SC-CLIP: short side 336 (Cityscapes 560), windows 224/112, scale 40, 50 or 55",
    known=table("sc-clip", SOURCE, ROWS, words="sclip"),
    elsewhere=COMMON,
)

PROTOCOLS_OF_SC_CLIP_L14 = Protocols(
    summary="SC-CLIP for ViT-L/14: scale 40, thresholds 0.2 on VOC21 and 0.25 on COCO-Object",
    known=table(
        "sc-clip-l14",
        SOURCE_L14,
        {**ROWS, **LARGE},
        words="sclip",
        method_fields=(("sc-clip", "class_share=0.1,fuse_to=19"),),
    ),
    elsewhere=COMMON,
)
