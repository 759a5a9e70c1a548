"""The `outliers` command: its subcommands, and how errors are reported."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from typing import Annotated

import typer
from rich.console import Console

from attention_outliers.commands.classify import classify
from attention_outliers.commands.compare import compare
from attention_outliers.commands.datasets import datasets_app, prepare_dataset
from attention_outliers.commands.demo import demo
from attention_outliers.commands.encode import encode
from attention_outliers.commands.evaluate import evaluate
from attention_outliers.commands.figure import figure
from attention_outliers.commands.list import list_parts
from attention_outliers.commands.probe import probe
from attention_outliers.commands.reproduce import reproduce
from attention_outliers.commands.segment import segment
from attention_outliers.commands.table import table
from attention_outliers.commands.view import view

app = typer.Typer(
    name="outliers",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Look inside vision transformers: find the few tokens that draw everybody's attention, measure them layer by "
        "layer, purify them, and segment with what is left.\n\n"
        "Begin with [bold]outliers demo[/bold], which needs no network, or with your own images: "
        "[bold]outliers probe IMAGES --backbone open_clip:ViT-B-16/openai --out run.zarr --plots figures/[/bold]"
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
