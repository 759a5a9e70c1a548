"""CLIPtrase's protocol: one center crop, scored on the crop, labels and a metric of its own."""

from __future__ import annotations

from typing import Any

from segment.decoding.windows import Whole
from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "leaves162/CLIPtrase 2b7de61"
# The release doubles VOC20's scores with those of the class token.
PRIOR = (("cliptrase", "class_prior=true"),)
COMMON: dict[str, Any] = {
    "windows": Whole(),
    "resampling": "bicubic",
    "scale": 100.0,  # CLIP's trained one
    "scored": "crop",
    "metric": "cliptrase",
    "empty": "skipped",  # where the only raw label in what is scored is 255
}
# The background is the last class, on VOC21 with void pixels; COCO-Object is scored on maps of COCO-Stuff.
OWN_LABELS = (("convention", "cliptrase"),)
ROWS: dict[str, dict[str, Any]] = {
    "voc20": {"method_fields": PRIOR},
    "voc21": {"dataset_fields": OWN_LABELS},
    "context59": {},
    "context60": {"dataset_fields": OWN_LABELS},
    "context459": {},
    "coco-object": {"dataset_fields": OWN_LABELS},
    "coco-stuff": {},
    "ade150": {},
    "ade847": {},
}


def _settings(name: str, side: int) -> dict[str, Any]:
    common = COMMON | {"size": f"short:{side}"}
    return {
        "known": table(name, SOURCE, ROWS, words="cliptrase", **common),
        "elsewhere": Protocol(name=name, dataset="", source=f"{SOURCE}: what most data sets have in common", **common),
    }


# Table 1 is at 336, Table 6 and later papers' quotations at 224.
PROTOCOLS_OF_CLIPTRASE = Protocols(
    summary="CLIPtrase at 336: short side 336, bicubic, middle square seen and scored, scale 100",
    **_settings("cliptrase", 336),
)
PROTOCOLS_OF_CLIPTRASE_224 = Protocols(
    summary="CLIPtrase at 224: short side 224, bicubic, middle square seen and scored, scale 100",
    **_settings("cliptrase-224", 224),
)
