"""Options of `outliers evaluate`: who does the work, and which settings of the protocol are others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from attention_outliers.commands.options import Batch, Device, Precision, Threads, Workers, keywords
from attention_outliers.commands.output import Output

if TYPE_CHECKING:
    from segment.evaluation.engines import Engine
    from segment.evaluation.options import EvaluationOptions


@dataclass(frozen=True, kw_only=True)
class Work:
    """Who does the work, and in what pieces."""

    panel: ClassVar[str] = "Processes"

    workers: Workers = None
    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="This machine, or a Ray cluster (extra `cluster`).")
    ] = "local"
    address: Annotated[
        str | None, typer.Option("--address", help="The Ray cluster: auto, HOST:6379, ray://HOST:10001.")
    ] = None
    batch: Batch = 8
    device: Device = "auto"
    precision: Precision = "fp32"
    shard: Annotated[
        int | None, typer.Option("--shard", min=1, help="Images in a shard: what is lost if a worker is killed.")
    ] = None
    threads: Threads = 1

    def start(self) -> Engine:
        """The engine."""
        if self.address is not None and self.engine != "ray":
            raise ValueError(f"--address {self.address} is that of a Ray cluster: add --engine ray.")
        if self.engine == "ray":
            from segment.evaluation.engines.ray import RayCluster

            return RayCluster(address=self.address, workers=self.workers)
        from segment.evaluation.engines.local import Local

        return Local(workers=self.workers)

    def options(self, show: Output) -> EvaluationOptions:
        """How each piece is worked on."""
        from segment.evaluation.options import EvaluationOptions

        fields = keywords(self, "device", "precision", "batch", "shard", "threads")
        return EvaluationOptions(progress=show.progress, **fields)


def settings_of(texts: list[str]) -> dict[str, str]:
    """["threshold=0.2"] -> {"threshold": "0.2"}."""
    settings: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"`--set` should read name=value, such as threshold=0.2; got `{text}`.")
        if (field := name.strip().replace("-", "_")) in settings:
            raise ValueError(
                f"`--set` sets `{field}` twice, to {settings[field]} and {value.strip()}; give one of them."
            )
        settings[field] = value.strip()
    return settings
