"""DIH-CLIP's protocol: SC-CLIP's numbers."""

from __future__ import annotations

from segment.evaluation.protocols.base import Protocol, Protocols, table
from segment.evaluation.protocols.sc_clip import ROWS

SOURCE = "duan-song/DiH-CLIP 775b609, configs/cfg_*.py"

PROTOCOLS_OF_DIH_CLIP = Protocols(
    summary="DIH-CLIP: SC-CLIP's settings, short side 336 (Cityscapes 560), windows 224/112, scale 40, 50 or 55",
    known=table("dih-clip", SOURCE, ROWS, words="sclip"),
    elsewhere=Protocol(name="dih-clip", dataset="", source=f"{SOURCE}: what most data sets have in common"),
)
