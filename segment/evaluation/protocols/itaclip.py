"""ITACLIP's protocol: windows of 224 every 28, five views, PAMR; definitions of words are not shipped here."""

from __future__ import annotations

from typing import Any

from segment.decoding.refine.pamr import Pamr
from segment.decoding.windows import Slide
from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "m-arda-aydn/ITACLIP 521a33c, configs/cfg_*.py"
NO_DEFINITIONS = (
    "The release blends each word with a definition or synonym that a language model wrote (β 0.05 on VOC21 and "
    "Cityscapes, 0.1 on COCO-Object, 0.15 on Context60, 0.2 on COCO-Stuff); these texts are not shipped.",
)
WINDOWS, PAMR = Slide(crop=224, stride=28), Pamr(iterations=10, dilations=(8, 16))
VIEWS = "views=gray+blur+vertical+horizontal"
FIVE, FIVE_70 = (("itaclip", VIEWS),), (("itaclip", f"{VIEWS},first_share=0.7"),)
ROWS: dict[str, dict[str, Any]] = {
    "voc21": {"scale": 60.0, "threshold": 0.1, "smallest_area": 0.1, "method_fields": FIVE_70},
    "context60": {"scale": 55.0, "threshold": 0.1},
    "coco-object": {"scale": 50.0, "threshold": 0.1},
    "coco-stuff": {"size": "short:448"},
    "cityscapes": {"size": "short:560", "method_fields": FIVE_70},
}
COMMON: dict[str, Any] = {"windows": WINDOWS, "refine": PAMR, "departures": NO_DEFINITIONS}

PROTOCOLS_OF_ITACLIP = Protocols(
    summary="ITACLIP: short side 336 (COCO-Stuff 448, Cityscapes 560), windows 224/28, five views, scale 40-60, PAMR",
    known=table(
        "itaclip",
        SOURCE,
        {dataset: {"method_fields": FIVE, **row} for dataset, row in ROWS.items()},
        words="sclip",
        **COMMON,
    ),
    elsewhere=Protocol(
        name="itaclip",
        dataset="",
        source=f"{SOURCE}: what most data sets have in common",
        method_fields=FIVE,
        **COMMON,
    ),
)
