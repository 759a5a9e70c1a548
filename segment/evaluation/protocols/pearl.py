"""PEARL's protocol: SCLIP's windows and words, VOC as whole images, label propagation over a coarse grid."""

from __future__ import annotations

from typing import Any

from segment.decoding.refine.tlp import Tlp
from segment.decoding.windows import Slide, Whole
from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "PGSmall/PEARL c26062b, configs/cfg_*.py"
# The share of the centered keys' own likeness.
LARGER = (("pearl", "alpha=0.3"),)
ROWS: dict[str, dict[str, Any]] = {
    "voc20": {"windows": Whole()},
    "voc21": {"windows": Whole(), "threshold": 0.1},
    "context59": {},
    "context60": {"threshold": 0.1},
    "coco-object": {"threshold": 0.1},
    "coco-stuff": {},
    "ade150": {"method_fields": LARGER},
    "cityscapes": {"size": "short:560", "method_fields": LARGER},
}


def _protocols(name: str, summary: str, refine: Tlp) -> Protocols:
    finer = Tlp(grid=224, affinity=refine.affinity)
    rows = {**ROWS, "cityscapes": {**ROWS["cityscapes"], "refine": finer}}
    common: dict[str, Any] = {"windows": Slide(crop=224, stride=112), "refine": refine}
    return Protocols(
        summary=summary,
        known=table(name, SOURCE, rows, words="sclip", **common),
        elsewhere=Protocol(name=name, dataset="", source=f"{SOURCE}: what most data sets have in common", **common),
    )


PROTOCOLS_OF_PEARL = _protocols(
    "pearl",
    "PEARL: short side 336 (Cityscapes 560), VOC whole, else windows 224/112, scale 40, label propagation",
    Tlp(grid=80, iterations=25, affinity="released"),
)
PROTOCOLS_OF_PEARL_PAPER = _protocols(
    "pearl-paper",
    "PEARL's settings, with the words' affinity in the label propagation as printed",
    Tlp(grid=80, iterations=25, affinity="printed"),
)
