"""The `outliers` command: its subcommands, and how errors are reported."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from attention_outliers.commands.classify import classify
from attention_outliers.commands.compare import compare
from attention_outliers.commands.datasets import datasets_app, prepare_dataset
from attention_outliers.commands.demo import demo
from attention_outliers.commands.encode import encode
from attention_outliers.commands.evaluate import evaluate
from attention_outliers.commands.figure import figure
from attention_outliers.commands.groups import grouped
from attention_outliers.commands.help import Command, Group
from attention_outliers.commands.list import list_parts
from attention_outliers.commands.probe import probe
from attention_outliers.commands.profile import profile
from attention_outliers.commands.reproduce import reproduce
from attention_outliers.commands.segment import segment
from attention_outliers.commands.table import table
from attention_outliers.commands.tables import bold
from attention_outliers.commands.view import view
from diagnostics.printable import printable

# What typer exits with on ctrl-C: 128 and the number of the signal.
INTERRUPTED = 130

app = typer.Typer(
    cls=Group,
    name="outliers",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Look inside vision transformers: find the few tokens that draw the attention of all others, measure them "
        "layer by layer, purify them, and segment with what is left.\n\n"
        "Begin with `outliers demo`, which needs no network, or with your images: "
        "outliers profile IMAGES --backbone open_clip:ViT-B-16/openai --out profiled/"
    ),
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"attention-outliers {version('attention-outliers')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


app.command("profile", cls=Command)(grouped(profile))
app.command("probe", cls=Command)(grouped(probe))
app.command("compare", cls=Command)(grouped(compare))
app.command("encode", cls=Command)(grouped(encode))
app.command("segment", cls=Command)(grouped(segment))
app.command("classify", cls=Command)(grouped(classify))
app.command("evaluate", cls=Command)(grouped(evaluate))
app.command("table", cls=Command)(grouped(table))
app.command("reproduce", cls=Command)(grouped(reproduce))
app.add_typer(datasets_app, name="datasets")
app.command("prepare", cls=Command)(grouped(prepare_dataset))
app.command("figure", cls=Command)(grouped(figure))
app.command("view", cls=Command)(grouped(view))
app.command("list", cls=Command)(grouped(list_parts))
app.command("demo", cls=Command)(grouped(demo))


def main() -> None:
    """Runs the command line; an expected error is one readable line and exit code 1, never a traceback."""
    _prepare_streams()
    try:
        app(prog_name="outliers")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            report("interrupted. What is finished is kept: the same command resumes.")
        raise
    except (ValueError, OSError, MemoryError) as error:
        report(explained(error))
        sys.exit(1)
    except RuntimeError as error:
        if not (message := of_resources(error)):
            raise
        report(message)
        sys.exit(1)


def _prepare_streams() -> None:
    """Names that the terminal's encoding lacks are printed with escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def explained(error: BaseException) -> str:
    """One line about an error; where its own text is missing, what to do."""
    if message := of_resources(error):
        return message
    # What Python and a shell have different ways out of has a message for each.
    return " ".join(getattr(error, "shell", str(error)).split()) or f"{type(error).__name__} without a message."


def of_resources(error: BaseException) -> str:
    """What to do where memory or threads ran out; empty for other errors."""
    text = str(error)
    if "can't start new thread" in text:
        return (
            "the system refuses another thread. Raise the limit of processes or of address space (ulimit -u, ulimit "
            "-v), or set OMP_NUM_THREADS=1."
        )
    memory = "out of memory" in text.lower() or "can't allocate memory" in text.lower()
    if memory or (isinstance(error, MemoryError) and not text):
        return "not enough memory. Take a smaller --batch, a smaller --size (such as 224), or fewer images or layers."
    return ""


def report(message: str) -> None:
    """An error line on standard error."""
    styled = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    typer.echo(f"{bold('error:', styled)} {printable(message)}", err=True)
