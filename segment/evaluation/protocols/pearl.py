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


def _settings(name: str, refine: Tlp) -> dict[str, Any]:
    """What both protocols have, but for the affinity of the label propagation."""
    finer = Tlp(grid=224, affinity=refine.affinity)
    rows = {**ROWS, "cityscapes": {**ROWS["cityscapes"], "refine": finer}}
    common: dict[str, Any] = {"windows": Slide(crop=224, stride=112), "refine": refine}
    return {
        "known": table(name, SOURCE, rows, words="sclip", **common),
        "elsewhere": Protocol(name=name, dataset="", source=f"{SOURCE}: what most data sets have in common", **common),
    }


# The summaries are written out here, since lists read them from this file without importing it.
PROTOCOLS_OF_PEARL = Protocols(
    summary="PEARL: short side 336 (Cityscapes 560), VOC whole, else windows 224/112, scale 40, label propagation",
    **_settings("pearl", Tlp(grid=80, iterations=25, affinity="released")),
)
PROTOCOLS_OF_PEARL_PAPER = Protocols(
    summary="PEARL's settings, with the words' affinity in the label propagation as printed",
    **_settings("pearl-paper", Tlp(grid=80, iterations=25, affinity="printed")),
)
