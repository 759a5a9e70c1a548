"""`outliers datasets`: which there are, what one on disk lacks, and label maps converted once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.groups import grouped
from attention_outliers.commands.help import Command, Group
from attention_outliers.commands.output import Output
from attention_outliers.commands.tables import Table

if TYPE_CHECKING:
    from segment.datasets.check import Check

MOST_PROBLEMS = 40  # lines, before the rest is only counted

Name = Annotated[
    str,
    typer.Argument(
        autocompletion=complete.datasets,
        help="A data set, such as voc21, or coco-object:convention=cliptrase; see `outliers datasets list`.",
    ),
]
Root = Annotated[Path, typer.Option("--root", "-r", help="The folder that holds it.")]

datasets_app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Data sets: list them, check one on disk, convert label maps.",
)


def list_datasets(*, show: Output) -> None:
    """List the data sets with their classes, images and what is not scored.

    Example: outliers datasets list
    """
    from attention_outliers.commands.definitions import takes_root
    from segment.datasets import DATASETS

    rows = [[name, "yes" if takes_root(DATASETS, name) else "", text] for name, text in DATASETS.describe().items()]
    show.table("datasets", Table(heads=["name", "--root", "what it is"], rows=rows))


def check_dataset(
    name: Name,
    *,
    root: Root,
    every: Annotated[bool, typer.Option("--all", help="Open every image and label map, not a sample of 50.")] = False,
    show: Output,
) -> None:
    """Say what is missing, broken or unknown, before a long run starts; exit code 1 if anything is.

    Example: outliers datasets check voc21 --root VOCdevkit/VOC2012
    """
    from segment.datasets.check import check

    result = check(name, root, every=every, progress=show.progress)
    _print(result, show)
    if not result.complete:
        raise typer.Exit(1)


def _print(check: Check, show: Output) -> None:
    """What a check came to."""
    show.record.update(
        title=check.title,
        images=check.images,
        expected=check.expected,
        notes=check.notes,
        problems=check.problems,
        complete=check.complete,
    )
    if check.title:
        of = f" of {check.expected}" if check.expected is not None else ""
        show.result(f"{check.title}: {check.images}{of} images")
    for line in check.notes:
        show.result(f"  {line}")
    for line in check.problems[:MOST_PROBLEMS]:
        show.result(f"problem: {line}")
    if len(check.problems) > MOST_PROBLEMS:
        show.result(f"and {len(check.problems) - MOST_PROBLEMS} more problems")
    if check.complete:
        show.result("complete." if check.expected is not None else "nothing is wrong.")


def prepare_dataset(
    name: Annotated[str, typer.Argument(help="coco-object, coco-stuff, cityscapes or context60.")],
    *,
    root: Root,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the label maps, to be a --root afterwards. May be the root.")
    ],
    show: Output,
) -> None:
    """Convert label maps once, into the files that the field's other programs read as well.

    Otherwise they are converted each time they are read. An interrupted run resumes.

    Example: outliers prepare coco-object --root coco_stuff164k --out coco_object
    """
    from segment.datasets.prepare import prepare

    done = prepare(name, root, out, progress=show.progress)
    of = f" of {done.expected}" if done.expected is not None else ""
    show.say(
        f"{done.count}{of} label maps in {done.out} ({done.written} written now)",
        out=done.out,
        count=done.count,
        expected=done.expected,
        written=done.written,
    )
    show.left_out(done.left_out)
    if done.left_out or (done.expected is not None and done.count != done.expected):
        raise typer.Exit(1)


datasets_app.command("list", cls=Command)(grouped(list_datasets))
datasets_app.command("check", cls=Command)(grouped(check_dataset))
datasets_app.command("prepare", cls=Command)(grouped(prepare_dataset))
