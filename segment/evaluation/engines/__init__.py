"""The registry of engines: what has shards done. A new one is a file and a line."""

from __future__ import annotations

from diagnostics.registry import Registry
from segment.evaluation.engines.base import Engine, ShardFailed
from segment.evaluation.engines.local import Local
from segment.evaluation.engines.ray import RayCluster

__all__ = ["ENGINES", "Engine", "ShardFailed"]

ENGINES: Registry[type[Engine]] = Registry("engine", {"local": Local, "ray": RayCluster}, part=Engine)
