"""`outliers reproduce`: a paper's table, measured again and printed beside what the paper has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from attention_outliers.commands.options import Batch, Device, Precision

if TYPE_CHECKING:
    from attention_outliers.papers.needs import Need

LIST = "list"


def reproduce(
    name: Annotated[
        str, typer.Argument(help="A table, such as sc-clip/table-3; a paper, such as sc-clip; or list.")
    ] = LIST,
    out: Annotated[
        str | None,
        typer.Option("--out", "-o", help="Where results are kept; what is there is not run again. A folder or URL."),
    ] = None,
    root: Annotated[
        list[str] | None,
        typer.Option("--root", help="Where the data sets lie, or one data set alone: voc21=FOLDER. Repeat."),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first images of each.")] = None,
    backbone: Annotated[
        str, typer.Option("--backbone", "-b", help="One backbone for all rows, instead of the paper's.")
    ] = "",
    data_sets: Annotated[
        str, typer.Option("--data-sets", help="Only the columns of these data sets: voc21,ade150.")
    ] = "",
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", help="Only this row, by its name or a part of it: --rows SC-CLIP. Repeat."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Drawn scenes for every data set and, unless --backbone, pocket for all.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it needs, and about how long.")] = False,
    form: Annotated[
        Literal["text", "markdown", "latex"], typer.Option("--form", "-f", help="text, markdown or latex.")
    ] = "text",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes: one for each GPU, or each core, by default."),
    ] = None,
    batch: Batch = 8,
    device: Device = "auto",
    precision: Precision = "fp32",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of each worker on a CPU.")] = 1,
) -> None:
    """Measure a table of a paper again, and print ours beside theirs with the difference.

    What OUT has already is not run again, and a run that was stopped goes on where it was. `outliers reproduce list`
    names the tables; `--dry-run` says what one needs.

    Example: outliers reproduce sc-clip/table-3 --root /data --out results --limit 100
    """
    from attention_outliers.papers import experiments_named
    from attention_outliers.papers.needs import needs
    from attention_outliers.papers.plan import Choice, narrowed
    from attention_outliers.papers.reproduce import How
    from attention_outliers.papers.reproduce import reproduce as run
    from attention_outliers.papers.results_table import rendered
    from attention_outliers.papers.side_by_side import side_by_side
    from segment.evaluation.engines.local import Local

    if name == LIST:
        _list()
        return
    columns = [text.strip() for text in data_sets.split(",") if text.strip()]
    chosen = [
        (experiment, Choice(data_sets=some, backbone=backbone, offline=offline, limit=limit))
        for experiment, some in narrowed(experiments_named(name), rows or [], columns)
    ]
    roots = roots_of(root or [])
    how = How(
        device=device,
        precision=precision,
        batch=batch,
        threads=threads,
        engine=Local(workers=workers),
        progress=not dry_run,
    )
    if dry_run:
        for experiment, choice in chosen:
            _say(f"{experiment.key}: {experiment.title}")
            _tell_needs(needs(experiment, choice, roots=roots, how=how))
        return
    if out is None:
        raise ValueError("say where results are kept, with --out FOLDER; or look at what is needed, with --dry-run.")
    nothing = True
    for number, (experiment, choice) in enumerate(chosen):
        found = run(experiment, choice, out=out, roots=roots, how=how)
        nothing = nothing and not found.ours
        _say(("\n" if number else "") + rendered(side_by_side(found), form))
    if nothing:
        raise typer.Exit(1)


def roots_of(texts: list[str]) -> dict[str, Path]:
    """["/data", "voc21=/voc"] -> {"": /data, "voc21": /voc}. ValueError where two stand for the same."""
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or "/" in name:  # a folder may have = in its name
            name, folder = "", text
        if name.strip() in found:
            what = f"of `{name}`" if name else "for all data sets"
            raise ValueError(f"`--root` names two folders {what}: {found[name.strip()]} and {folder}. Give one.")
        found[name.strip()] = Path(folder).expanduser()
    return found


def _list() -> None:
    from attention_outliers.papers import experiments

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("name", style="bold cyan", no_wrap=True)
    table.add_column("rows", justify="right")
    table.add_column("columns", justify="right")
    table.add_column("printed", justify="right")
    table.add_column("can run", justify="right")
    table.add_column("what it is", overflow="fold")
    for key, one in experiments().items():
        places = list(one.places())
        printed = sum(place.printed is not None for place in places)
        table.add_row(
            key, *map(str, (len(one.rows), len(one.columns), printed, sum(place.runs for place in places))), one.title
        )
    Console().print(table)


def _tell_needs(found: list[Need]) -> None:
    seconds = 0.0
    for need in found:
        group = need.group
        changed = "".join(f", {key}={value}" for key, value in group.settings)
        _say(f"- {group.dataset}, protocol {group.protocol}{changed}, {group.backbone}: {len(need.methods)} methods")
        _say(f"  data: {need.data}")
        _say(f"  weights: {need.weights}")
        guess = (
            "no guess: nothing to measure with"
            if need.seconds is None
            else f"about {in_words(need.seconds)} by one worker"
        )
        _say(f"  {need.images} images, {need.windows} windows through all methods; {guess}")
        for method, note in need.notes.items():
            _say(f"  {method}: {note}")
        seconds += need.seconds or 0.0
    images, windows = sum(need.images for need in found), sum(need.windows for need in found)
    ready = sum(need.ready for need in found)
    total = f"{len(found)} runs ({ready} ready), {images} images, {windows} windows"
    _say(f"{total}, about {in_words(seconds)} in all by one worker")


def in_words(seconds: float) -> str:
    """90 -> «2 min»: seconds up to a minute, then minutes, hours, days."""
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {word}"
    return f"{seconds:.1f} s"


def _say(text: str) -> None:
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
