"""`outliers datasets`: which there are, what one on disk lacks, and label maps converted once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from segment.datasets.check import Check

Name = Annotated[
    str, typer.Argument(help="A data set, such as voc21, or coco-object:convention=cliptrase; see `datasets list`.")
]
Root = Annotated[Path, typer.Option("--root", "-r", help="The folder that holds it.")]

datasets_app = typer.Typer(no_args_is_help=True, help="Data sets: which there are, and what one of yours lacks.")


@datasets_app.command("list")
def list_datasets() -> None:
    """List the data sets with their classes, images and what is not scored."""
    from segment.datasets import DATASETS, needs_root

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name", style="bold cyan", no_wrap=True)
    table.add_column("--root", no_wrap=True)
    table.add_column("what it is", overflow="fold")
    for name, text in DATASETS.describe().items():
        table.add_row(name, "yes" if needs_root(name) else "", text)
    Console().print(table)


@datasets_app.command("check")
def check_dataset(
    name: Name,
    root: Root,
    every: Annotated[bool, typer.Option("--all", help="Open every image and label map, not a sample of 50.")] = False,
) -> None:
    """Say what is missing, broken or unknown, before a long run starts; exit code 1 if anything is.

    Example: outliers datasets check voc21 --root VOCdevkit/VOC2012
    """
    from segment.datasets.check import check

    if not tell_check(check(name, root, every=every, progress=True)):
        raise typer.Exit(1)


def tell_check(found: Check) -> bool:
    """Prints a check, and gives back whether all is well."""
    console = Console()
    if found.title:
        of = f" of {found.expected}" if found.expected is not None else ""
        _say(console, f"{found.title}: {found.images}{of} images")
    for line in found.notes:
        _say(console, f"  {line}")
    for line in found.problems[:MOST_PROBLEMS]:
        console.print("[bold red]problem:[/bold red]", end=" ")
        _say(console, line)
    if len(found.problems) > MOST_PROBLEMS:
        _say(console, f"and {len(found.problems) - MOST_PROBLEMS} more problems")
    if found.complete:
        _say(console, "complete." if found.expected is not None else "nothing is wrong.")
    return found.complete


MOST_PROBLEMS = 40  # lines, before the rest is only counted


def prepare_dataset(
    name: Annotated[str, typer.Argument(help="coco-object, coco-stuff, cityscapes or context60.")],
    root: Root,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Where label maps go; a root of its own afterwards. May be the root.")
    ],
) -> None:
    """Convert label maps once, into the files that the field's other programs read as well.

    Without it they are converted each time they are read. A run that was stopped goes on where it was.

    Example: outliers prepare coco-object --root coco_stuff164k --out coco_object
    """
    from segment.datasets.prepare import prepare

    done = prepare(name, root, out, progress=True)
    console = Console()
    of = f" of {done.expected}" if done.expected is not None else ""
    _say(console, f"{done.count}{of} label maps in {done.out} ({done.written} written now)")
    for reason in done.left_out.values():
        console.print("[bold red]left out:[/bold red]", end=" ")
        _say(console, reason)
    if done.left_out or (done.expected is not None and done.count != done.expected):
        raise typer.Exit(1)


datasets_app.command("prepare")(prepare_dataset)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
