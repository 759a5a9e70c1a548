"""The registry of engines: what has shards done. A new one is a file and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry

if TYPE_CHECKING:
    from segment.evaluation.engines.base import Engine, ShardFailed
    from segment.evaluation.engines.local import Local
    from segment.evaluation.engines.ray import RayCluster

__all__ = ["ENGINES", "Engine", "Local", "RayCluster", "ShardFailed"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "segment.evaluation.engines.base": ("Engine", "ShardFailed"),
        "segment.evaluation.engines.local": ("Local",),
        "segment.evaluation.engines.ray": ("RayCluster",),
    },
)

ENGINES: Registry[type[Engine]] = Registry(
    "engine",
    {
        "local": "segment.evaluation.engines.local:Local",
        "ray": "segment.evaluation.engines.ray:RayCluster",
    },
    group="engines",
    part="segment.evaluation.engines.base:Engine",
)
