"""`outliers evaluate`: methods on a data set, under a paper's protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.evaluate_options import Work, settings_of
from attention_outliers.commands.options import BackboneSpec, EditSpecs, ProfileFile, profiled, with_edits
from attention_outliers.commands.output import Output
from attention_outliers.commands.sheets import print_cells
from attention_outliers.commands.words import ClassEmbeddings

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
