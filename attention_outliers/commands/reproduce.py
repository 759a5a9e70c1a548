"""`outliers reproduce`: a paper's table, measured again and printed beside what the paper has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import Batch, Device, Precision, Threads, Workers, keywords
from attention_outliers.commands.output import Output
from attention_outliers.commands.sheets import Form, print_sheet
from attention_outliers.commands.tables import Table

if TYPE_CHECKING:
    from attention_outliers.papers.experiment import Experiment
    from attention_outliers.papers.needs import Need
    from attention_outliers.papers.plan import Selection
    from attention_outliers.papers.reproduce import ReproduceOptions

LIST = "list"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is measured of the tables, and with what."""

    panel: ClassVar[str] = "Parts of the tables"

    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first images of each.")] = None
    backbone: Annotated[
        str,
        typer.Option(
            "--backbone",
            "-b",
            autocompletion=complete.backbones,
            help="One backbone for all rows, instead of the paper's.",
        ),
    ] = ""
    second: Annotated[
        str,
        typer.Option(
            "--second",
            autocompletion=complete.backbones,
            help="One second backbone for all rows that have one, instead of the paper's.",
        ),
    ] = ""
    data_sets: Annotated[
        str,
        typer.Option(
            "--data-sets",
            autocompletion=complete.datasets,
            help="Only the columns of these data sets: voc21,ade150.",
        ),
    ] = ""
    rows: Annotated[
        list[str] | None,
        typer.Option("--rows", help="Only this row, by its name or whole words of it: --rows SC-CLIP. Repeat."),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Changes one setting of every row's protocol: --set windows=whole. Repeat."),
    ] = None
    offline: Annotated[
        bool, typer.Option("--offline", help="Drawn scenes for every data set and, unless --backbone, pocket for all.")
    ] = False

    def of(self, name: str) -> list[tuple[Experiment, Selection]]:
        """The tables of that name, with the rows and data sets asked for."""
        from attention_outliers.commands.evaluate import settings_of
        from attention_outliers.papers import experiments_named
        from attention_outliers.papers.plan import Selection, narrowed

        settings = tuple(sorted(settings_of(self.settings or []).items()))
        columns = [text.strip() for text in self.data_sets.split(",") if text.strip()]
        chosen = keywords(self, "backbone", "second", "offline", "limit")
        return [
            (table, Selection(data_sets=names, settings=settings, **chosen))
            for table, names in narrowed(experiments_named(name), self.rows or [], columns)
        ]


@dataclass(frozen=True, kw_only=True)
class Processes:
    """Who does the work."""

    panel: ClassVar[str] = "Processes"

    workers: Workers = None
    batch: Batch = 8
    device: Device = "auto"
    precision: Precision = "fp32"
    threads: Threads = 1

    def how(self, *, progress: bool) -> ReproduceOptions:
        """The settings of a reproduction."""
        from attention_outliers.papers.reproduce import ReproduceOptions
        from segment.evaluation.engines.local import Local

        settings = keywords(self, "batch", "device", "precision", "threads")
        return ReproduceOptions(engine=Local(workers=self.workers), progress=progress, **settings)


NameArgument = Annotated[
    str,
    typer.Argument(
        autocompletion=complete.tables,
        help="A table, such as sc-clip/table-3; a paper, such as sc-clip; or list.",
    ),
]
OutOption = Annotated[
    str | None,
    typer.Option("--out", "-o", help="Folder or URL of results; what it has is not run again."),
]
RootOption = Annotated[
    list[str] | None,
    typer.Option("--root", help="The folder that holds the data sets, or that of one: voc21=FOLDER. Repeat."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only print what a run needs, and about how long it takes.")
]


def reproduce(
    name: NameArgument = LIST,
    *,
    out: OutOption = None,
    root: RootOption = None,
    dry_run: DryRunOption = False,
    form: Form = "text",
    part: Part,
    processes: Processes,
    show: Output,
) -> None:
    """Measure a table of a paper again, and print ours beside theirs with the difference.

    What OUT has already is not run again, and an interrupted run resumes. `outliers reproduce list` names the tables;
    `--dry-run` prints what one needs.

    Example: outliers reproduce sc-clip/table-3 --root /data --out results --limit 100
    """
    if name == LIST:
        _print_list(show)
        return
    chosen, roots = part.of(name), roots_of(root or [])
    how = processes.how(progress=show.progress and not dry_run)
    if dry_run:
        from attention_outliers.papers.needs import needs

        for experiment, choice in chosen:
            show.result(f"{experiment.key}: {experiment.title}")
            _print_needs(experiment.key, needs(experiment, choice, roots=roots, how=how), show)
        return
    if out is None:
        raise ValueError("name the folder of results, with --out FOLDER; or look at what is needed, with --dry-run.")
    from attention_outliers.papers.reproduce import reproduce as run
    from attention_outliers.papers.side_by_side import side_by_side

    measured = False
    for number, (experiment, choice) in enumerate(chosen):
        reproduction = run(experiment, choice, out=out, roots=roots, how=how)
        measured = measured or bool(reproduction.ours)
        sheet = side_by_side(reproduction)
        if number:
            show.result("")
        print_sheet(sheet, form, show)
        rows = [dict(zip(sheet.header, row, strict=True)) for row in sheet.rows]
        show.record[experiment.key] = {"title": sheet.title, "rows": rows, "notes": sheet.notes}
    if not measured:
        raise typer.Exit(1)


def roots_of(texts: list[str]) -> dict[str, Path]:
    """["/data", "voc21=/voc"] -> {"": /data, "voc21": /voc}. ValueError where two stand for the same."""
    roots: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not equals or "/" in name:  # a folder may have = in its name
            name, folder = "", text
        if name.strip() in roots:
            what = f"of `{name}`" if name else "for all data sets"
            raise ValueError(f"`--root` names two folders {what}: {roots[name.strip()]} and {folder}. Give one.")
        roots[name.strip()] = Path(folder).expanduser()
    return roots


def _print_list(show: Output) -> None:
    """Every table, with how much of it was printed and can be run."""
    from attention_outliers.papers import experiments

    rows = []
    for key, table in experiments().items():
        places = list(table.places())
        counts = len(table.rows), len(table.columns), sum(place.printed is not None for place in places)
        rows.append([key, *counts, sum(place.runs for place in places), table.title])
    heads = ["name", "rows", "columns", "printed", "can run", "what it is"]
    show.table("tables", Table(heads=heads, rows=rows))


def _print_needs(key: str, needs: list[Need], show: Output) -> None:
    """What each run of a table needs, and the sum."""
    runs = []
    for need in needs:
        group = need.group
        changed = "".join(f", {name}={value}" for name, value in group.settings)
        guess = "no guess: nothing to measure with"
        if need.seconds is not None:
            guess = f"about {in_words(need.seconds)} by one worker"
        show.result(
            f"- {group.dataset}, protocol {group.protocol}{changed}, {group.backbone}: {len(need.methods)} methods\n"
            f"  data: {need.data}\n"
            f"  weights: {need.weights}\n"
            f"  {need.images} images, {need.windows} windows through all methods; {guess}"
        )
        for method, note in need.notes.items():
            show.result(f"  {method}: {note}")
        about = {**group._asdict(), "settings": dict(group.settings), "notes": dict(need.notes)}
        fields = ("methods", "data", "weights", "images", "windows", "seconds", "ready")
        runs.append(about | keywords(need, *fields))
    show.record[key] = runs
    images, windows, ready = (sum(getattr(need, name) for need in needs) for name in ("images", "windows", "ready"))
    seconds = in_words(sum(need.seconds or 0.0 for need in needs))
    show.result(
        f"{len(needs)} runs ({ready} ready), {images} images, {windows} windows, about {seconds} in all by one worker"
    )


def in_words(seconds: float) -> str:
    """90 -> «1.5 min»: seconds up to a minute, then minutes, hours, days."""
    for size, word in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {word}"
    return f"{seconds:.1f} s"
