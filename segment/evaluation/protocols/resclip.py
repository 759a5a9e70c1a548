"""ResCLIP's protocol: SCLIP's windows and words, VOC as whole images, seven constants of the method a data set."""

from __future__ import annotations

from typing import Any

from segment.decoding.windows import Slide, Whole
from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "yvhangyang/ResCLIP 0e085f7, configs/cfg_*.py"
WINDOWS = Slide(crop=224, stride=112)


def _constants(share: float, feedback_tau: float, feedback_share: float, threshold: float) -> dict[str, Any]:
    """λ of the middle layers' attention; τ and λ of the feedback; below which probability a pixel is query 0."""
    settings = f"share={share},feedback_tau={feedback_tau},feedback_share={feedback_share}"
    return {"method_fields": (("resclip", f"{settings},feedback_threshold={threshold}"),)}


PROTOCOLS_OF_RESCLIP = Protocols(
    summary="ResCLIP: short side 336 (Cityscapes 560), VOC whole, else windows 224/112, scale 40",
    known=table(
        "resclip",
        SOURCE,
        {
            "voc20": {"windows": Whole(), **_constants(0.6, 2.1, 0.6, 0.1)},
            "voc21": {"windows": Whole(), "threshold": 0.1, **_constants(0.3, 2.2, 0.7, 0.5)},
            "context59": _constants(0.4, 1.8, 0.7, 0.25),
            "context60": {"threshold": 0.1, **_constants(0.3, 1.8, 0.7, 0.3)},
            "coco-object": {"threshold": 0.1, **_constants(0.4, 1.8, 0.7, 0.11)},
            "coco-stuff": _constants(0.4, 1.8, 0.7, 0.11),
            "ade150": _constants(0.3, 2.1, 0.7, 0.25),
            "cityscapes": {"size": "short:560", **_constants(0.2, 2.1, 0.6, 0.1)},
        },
        windows=WINDOWS,
        words="sclip",
    ),
    elsewhere=Protocol(
        name="resclip", dataset="", source=f"{SOURCE}: what most data sets have in common", windows=WINDOWS
    ),
)
