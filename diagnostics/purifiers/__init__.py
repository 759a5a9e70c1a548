"""The registry of purifiers, by name; a new one is a file and a line."""

from __future__ import annotations

from diagnostics.purifiers.attention import mask_columns
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.class_token import ClassToken
from diagnostics.purifiers.clip_channels import ClipChannels
from diagnostics.purifiers.image_mean import ImageMean
from diagnostics.purifiers.keep import Keep
from diagnostics.purifiers.low_pass import LowPass
from diagnostics.purifiers.neighbor_bilinear import NeighborBilinear
from diagnostics.purifiers.neighbor_mean import NeighborMean
from diagnostics.purifiers.neighbor_median import NeighborMedian
from diagnostics.purifiers.neighbor_nearest import NeighborNearest
from diagnostics.purifiers.neighbor_weighted import NeighborWeighted
from diagnostics.purifiers.sfp_sum import SfpSum
from diagnostics.purifiers.shuffle import Shuffle
from diagnostics.purifiers.zero import Zero
from diagnostics.registry import Registry

__all__ = ["PURIFIERS", "Purifier", "mask_columns"]

PURIFIERS: Registry[type[Purifier]] = Registry(
    "purifier",
    {
        "keep": Keep,
        "neighbor-mean": NeighborMean,
        "neighbor-median": NeighborMedian,
        "neighbor-nearest": NeighborNearest,
        "neighbor-bilinear": NeighborBilinear,
        "neighbor-weighted": NeighborWeighted,
        "sfp-sum": SfpSum,
        "class-token": ClassToken,
        "image-mean": ImageMean,
        "zero": Zero,
        "clip-channels": ClipChannels,
        "low-pass": LowPass,
        "shuffle": Shuffle,
    },
    part=Purifier,
    # SC-CLIP's own short names of its five interpolations (Table 6).
    aliases={kind: f"neighbor-{kind}" for kind in ("mean", "median", "nearest", "bilinear", "weighted")},
)
