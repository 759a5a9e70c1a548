"""`outliers reproduce`: a paper's table, measured again and printed beside what the paper has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.options import keywords
from attention_outliers.commands.output import Output
from attention_outliers.commands.reproduce_options import Part, Processes, roots_of
from attention_outliers.commands.sheets import Form, print_sheet
from attention_outliers.commands.tables import Table

if TYPE_CHECKING:
    from attention_outliers.papers.needs import Need

LIST = "list"


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
    from segment.evaluation.storage import storage_at

    storage_at(out)  # refused once, and not by each run
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
    from attention_outliers.papers.needs import described

    for line in described(needs):
        show.result(line)
    fields = ("methods", "data", "weights", "images", "windows", "seconds", "ready")
    show.record[key] = [
        {**need.group._asdict(), "settings": dict(need.group.settings), "notes": dict(need.notes)}
        | keywords(need, *fields)
        for need in needs
    ]
