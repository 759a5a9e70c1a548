"""NACLIP's protocol: SCLIP's windows, VOC as whole images, PAMR after the scores."""

from __future__ import annotations

from segment.decoding.refine.pamr import Pamr
from segment.decoding.windows import Slide, Whole
from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "sinahmr/NACLIP 0cac3a6 (second version), configs/cfg_*.py"
PAMR = Pamr(iterations=10, dilations=(8, 16))

PROTOCOLS_OF_NACLIP = Protocols(
    summary="NACLIP, second version: short side 336 (Cityscapes 560), VOC whole, else windows 224/112, scale 40, PAMR",
    known=table(
        "naclip",
        SOURCE,
        {
            "voc20": {"windows": Whole()},
            "voc21": {"windows": Whole(), "threshold": 0.1},
            "context59": {},
            "context60": {"threshold": 0.1},
            "coco-object": {"threshold": 0.1},
            "coco-stuff": {},
            "ade150": {},
            "cityscapes": {"size": "short:560"},
        },
        windows=Slide(crop=224, stride=112),
        words="sclip",
        refine=PAMR,
    ),
    elsewhere=Protocol(name="naclip", dataset="", source=f"{SOURCE}: what most data sets have in common", refine=PAMR),
)
