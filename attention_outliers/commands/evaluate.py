"""`outliers evaluate`: methods on a data set, under a paper's protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import (
    BackboneSpec,
    Batch,
    Device,
    EditSpecs,
    Precision,
    ProfileFile,
    Threads,
    Workers,
    keywords,
    profiled,
    with_edits,
)
from attention_outliers.commands.output import Output
from attention_outliers.commands.sheets import print_cells
from attention_outliers.commands.words import ClassEmbeddings

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


DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        "-d",
        autocompletion=complete.datasets,
        help="Which data set, such as voc21; see `outliers list datasets`.",
    ),
]
OutOption = Annotated[
    str, typer.Option("--out", "-o", help="Folder of this run, or a URL that fsspec knows: s3://bucket/run.")
]
MethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        "-M",
        autocompletion=complete.methods,
        help="One method or several, such as clip,clearclip,sc-clip:detector=som; they share the forward pass.",
    ),
]
RootOption = Annotated[Path | None, typer.Option("--root", help="The folder that holds the data set.")]
ProtocolOption = Annotated[
    str,
    typer.Option(
        "--protocol",
        "-p",
        autocompletion=complete.protocols,
        help="Whose settings: ours, sclip, sfp, …; see `outliers list protocols`.",
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Changes one setting of the protocol, and its hash: --set threshold=0.2. Repeat."),
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first images.")]
BoundaryOption = Annotated[bool, typer.Option(help="Also boundary IoU; takes time on a CPU.")]
ExportOption = Annotated[
    str | None,
    typer.Option("--export", help="Also write label maps there, in the data set's encoding, for test servers."),
]


def evaluate(
    *,
    dataset: DatasetOption,
    out: OutOption,
    method: MethodOption = "sc-clip",
    root: RootOption = None,
    backbone: BackboneSpec = "pocket",
    edit: EditSpecs = None,
    profile: ProfileFile = None,
    protocol: ProtocolOption = "ours",
    settings: SettingsOption = None,
    limit: LimitOption = None,
    embeddings: ClassEmbeddings = None,
    boundary: BoundaryOption = True,
    export: ExportOption = None,
    work: Work,
    show: Output,
) -> None:
    """Score methods on a labeled data set under a named protocol.

    The work is cut into shards; a run that was interrupted, killed or out of disk resumes and ends with the same
    counts. OUT/cells has a JSON for each method; `outliers table OUT` prints them beside the published numbers.

    Example: outliers evaluate --dataset voc21 --root VOCdevkit/VOC2012 --method clip,sc-clip --protocol sc-clip
    --backbone open_clip:ViT-B-16/openai --out results/voc21
    """
    changed, engine = settings_of(settings or []), work.start()
    options = work.options(show).changed(limit=limit, rows=embeddings, boundary=boundary, export=export)
    from segment.evaluation.evaluate import evaluate as run

    result = run(
        with_edits(backbone, edit),
        profiled(method, profile),
        dataset,
        protocol,
        out=out,
        root=root,
        settings=changed,
        engine=engine,
        options=options,
    )
    print_cells(result.cells, "text", show)
    show.left_out({name: f"{name}: {reason}" for name, reason in result.broken.items()})
    show.say(f"results: {out}", folder=str(out))


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
