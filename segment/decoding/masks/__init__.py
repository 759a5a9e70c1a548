"""Where the masks come from that a vote is held in: `dbscan`, `affinity` of another backbone, `sam`, `left`."""

from __future__ import annotations

from diagnostics.registry import Registry
from segment.decoding.masks.affinity import AffinityMasks
from segment.decoding.masks.base import Clusters, MaskSource, PatchMasks
from segment.decoding.masks.dbscan import Dbscan
from segment.decoding.masks.left import LeftMasks
from segment.decoding.masks.sam import Sam

__all__ = ["MASKS", "Clusters", "MaskSource", "PatchMasks"]

MASKS: Registry[type[MaskSource]] = Registry(
    "mask source",
    {"dbscan": Dbscan, "affinity": AffinityMasks, "sam": Sam, "left": LeftMasks},
    part=MaskSource,
)
