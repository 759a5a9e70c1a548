"""LaVG's protocol: SCLIP's numbers; masks of the whole image, and a rule for the rest on VOC21."""

from __future__ import annotations

from segment.evaluation.protocols.base import Protocol, Protocols, table

SOURCE = "dahyun-kang/lavg 2db88e5, configs/cfg_*.py"

PROTOCOLS_OF_LAVG = Protocols(
    summary="LaVG: SCLIP's settings, short side 336 (COCO-Stuff 448, Cityscapes 560), windows 224/112, scale 40-65",
    known=table(
        "lavg",
        SOURCE,
        {
            "voc20": {},
            "voc21": {
                "scale": 65.0,
                "threshold": 0.1,
                "smallest_area": 0.1,
                "method_fields": (("lavg", "background_only=true"),),
            },
            "context59": {},
            "context60": {"scale": 50.0, "threshold": 0.1},
            "coco-object": {"scale": 50.0, "threshold": 0.1},
            "coco-stuff": {"size": "short:448"},
            "ade150": {},
            "cityscapes": {"size": "short:560"},
        },
        words="sclip",
        departures=("Masks are cut in each window; the release cuts them once, of the whole image.",),
    ),
    elsewhere=Protocol(name="lavg", dataset="", source=f"{SOURCE}: what most data sets have in common"),
)
