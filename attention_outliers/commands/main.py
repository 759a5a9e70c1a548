"""The `outliers` command: its subcommands, and how errors are told."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from typing import Annotated

import typer
from rich.console import Console

from commands.classify import classify
from commands.compare import compare
from commands.datasets import datasets_app, prepare_dataset
from commands.demo import demo
from commands.encode import encode
from commands.evaluate import evaluate
from commands.figure import figure
from commands.list import list_parts
from commands.probe import probe
from commands.reproduce import reproduce
from commands.segment import segment
from commands.table import table
from commands.view import view

app = typer.Typer(
    name="outliers",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Look inside vision transformers: find the few tokens that draw everybody's attention, measure them layer by "
        "layer, mend them, and segment with what is left.\n\n"
        "Begin with [bold]outliers demo[/bold], which needs no network, or with your own pictures: "
        "[bold]outliers probe PICTURES --backbone open_clip:ViT-B-16/openai --out run.zarr --plots figures/[/bold]"
    ),
)


def tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"attention-outliers {version_of('attention-outliers')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=tell_version, is_eager=True)
    ] = False,
) -> None: ...


app.command("probe")(probe)
app.command("compare")(compare)
app.command("encode")(encode)
app.command("segment")(segment)
app.command("classify")(classify)
app.command("evaluate")(evaluate)
app.command("table")(table)
app.command("reproduce")(reproduce)
app.add_typer(datasets_app, name="datasets")
app.command("prepare")(prepare_dataset)
app.command("figure")(figure)
app.command("view")(view)
app.command("list")(list_parts)
app.command("demo")(demo)

# What typer exits with on ctrl-C: 128 and the number of the signal.
INTERRUPTED = 130


def main() -> None:
    """Runs the command line; an expected error is one readable line and exit code 1, never a traceback."""
    try:
        app()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            tell("stopped. What is finished is kept: the same command goes on from there.")
        raise
    except (ValueError, OSError, MemoryError) as error:
        tell(str(error))
        sys.exit(1)


def tell(message: str) -> None:
    """An error line on standard error."""
    Console(stderr=True, highlight=False).print(f"[bold red]error:[/bold red] {_plain(message)}", soft_wrap=True)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
