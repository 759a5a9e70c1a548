"""The registry of purifiers, by name; a new one is a file and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry

if TYPE_CHECKING:
    from diagnostics.purifiers.attention import mask_columns
    from diagnostics.purifiers.base import Purifier

__all__ = ["PURIFIERS", "Purifier", "mask_columns"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "diagnostics.purifiers.attention": ("mask_columns",),
        "diagnostics.purifiers.base": ("Purifier",),
    },
)

PURIFIERS: Registry[type[Purifier]] = Registry(
    "purifier",
    {
        "keep": "diagnostics.purifiers.keep:Keep",
        "neighbor-mean": "diagnostics.purifiers.neighbor_mean:NeighborMean",
        "neighbor-median": "diagnostics.purifiers.neighbor_median:NeighborMedian",
        "neighbor-nearest": "diagnostics.purifiers.neighbor_nearest:NeighborNearest",
        "neighbor-bilinear": "diagnostics.purifiers.neighbor_bilinear:NeighborBilinear",
        "neighbor-weighted": "diagnostics.purifiers.neighbor_weighted:NeighborWeighted",
        "sfp-sum": "diagnostics.purifiers.sfp_sum:SfpSum",
        "class-token": "diagnostics.purifiers.class_token:ClassToken",
        "image-mean": "diagnostics.purifiers.image_mean:ImageMean",
        "zero": "diagnostics.purifiers.zero:Zero",
        "clip-channels": "diagnostics.purifiers.clip_channels:ClipChannels",
        "low-pass": "diagnostics.purifiers.low_pass:LowPass",
        "shuffle": "diagnostics.purifiers.shuffle:Shuffle",
    },
    group="purifiers",
    part="diagnostics.purifiers.base:Purifier",
    # SC-CLIP's own short names of its five interpolations (Table 6).
    aliases={kind: f"neighbor-{kind}" for kind in ("mean", "median", "nearest", "bilinear", "weighted")},
)
