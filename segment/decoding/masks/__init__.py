"""Where the masks come from that a vote is held in: `dbscan`, `affinity` of another backbone, `sam`, `left`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry

if TYPE_CHECKING:
    from segment.decoding.masks.base import Clusters, MaskSource, PatchMasks

__all__ = ["MASKS", "Clusters", "MaskSource", "PatchMasks"]

__getattr__, __dir__ = lazy_names(__name__, {"segment.decoding.masks.base": ("Clusters", "MaskSource", "PatchMasks")})

MASKS: Registry[type[MaskSource]] = Registry(
    "mask source",
    {
        "dbscan": "segment.decoding.masks.dbscan:Dbscan",
        "affinity": "segment.decoding.masks.affinity:AffinityMasks",
        "sam": "segment.decoding.masks.sam:SamMasks",
        "left": "segment.decoding.masks.left:LeftMasks",
    },
    group="masks",
    part="segment.decoding.masks.base:MaskSource",
)
