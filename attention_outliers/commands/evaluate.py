"""`outliers evaluate`: methods on a data set, under a paper's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from attention_outliers.commands.options import BackboneSpec, Batch, Device, Precision
from attention_outliers.commands.output import tell_left_out
from attention_outliers.commands.words import Rows


def evaluate(
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="Which data set, such as voc21; see `outliers list datasets`.")
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", help="Folder of this run, or a URL that fsspec knows: s3://bucket/run.")
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-M",
            help="One method or several, such as clip,clearclip,sc-clip:detector=som; they share the forward pass.",
        ),
    ] = "sc-clip",
    root: Annotated[Path | None, typer.Option("--root", help="Where the data set lies.")] = None,
    backbone: BackboneSpec = "pocket",
    protocol: Annotated[
        str,
        typer.Option("--protocol", "-p", help="Whose settings: ours, sclip, sfp, …; see `outliers list protocols`."),
    ] = "ours",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Changes one setting of the protocol, and its hash: --set threshold=0.2. Repeat."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first images.")] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes: one for each GPU or, without, each core by default."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option("--engine", help="This machine, or a Ray cluster (extra `cluster`).")
    ] = "local",
    address: Annotated[
        str | None, typer.Option("--address", help="The Ray cluster: auto, HOST:6379, ray://HOST:10001.")
    ] = None,
    batch: Batch = 8,
    device: Device = "auto",
    precision: Precision = "fp32",
    shard: Annotated[
        int | None, typer.Option("--shard", min=1, help="Images in a shard, the piece that a killed worker loses.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of each worker on a CPU.")] = 1,
    rows: Rows = None,
    boundary: Annotated[bool, typer.Option(help="Also boundary IoU, at some cost on a CPU.")] = True,
    export: Annotated[
        str | None,
        typer.Option("--export", help="Also write label maps there, in the data set's own encoding, for test servers."),
    ] = None,
) -> None:
    """Score methods on a labeled data set under a named protocol.

    The work is cut into shards; a run that was stopped, killed or out of disk goes on where it was and ends with the
    same counts. OUT/cells has a JSON for each method; `outliers table OUT` prints them beside the published numbers.

    Example: outliers evaluate --dataset voc21 --root VOCdevkit/VOC2012 --method clip,sc-clip --protocol sc-clip
    --backbone open_clip:ViT-B-16/openai --out results/voc21
    """
    from attention_outliers.papers.results_table import rendered, sheets
    from segment.evaluation.engines import Engine, Local
    from segment.evaluation.engines.ray import RayCluster
    from segment.evaluation.evaluate import evaluate as run

    if address is not None and engine != "ray":
        raise ValueError(f"--address {address} is that of a Ray cluster: add --engine ray.")
    work: Engine = RayCluster(address=address, workers=workers) if engine == "ray" else Local(workers=workers)
    found = run(
        backbone,
        method,
        dataset,
        protocol,
        out=out,
        root=root,
        settings=settings_of(settings or []),
        limit=limit,
        engine=work,
        device=device,
        precision=precision,
        batch=batch,
        shard=shard,
        threads=threads,
        rows=rows,
        boundary=boundary,
        export=export,
        progress=True,
    )
    console = Console()
    for sheet in sheets(found.cells):
        console.print(rendered(sheet), markup=False, highlight=False, soft_wrap=True)
    tell_left_out({name: f"{name}: {reason}" for name, reason in found.broken.items()})
    console.print(f"results: {out}", markup=False, highlight=False, soft_wrap=True)


def settings_of(texts: list[str]) -> dict[str, str]:
    """["threshold=0.2"] -> {"threshold": "0.2"}."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"`--set` should read name=value, such as threshold=0.2; got `{text}`.")
        found[name.strip()] = value.strip()
    return found
