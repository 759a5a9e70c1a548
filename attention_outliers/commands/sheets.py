"""Tables of results in the terminal: text that fits it, Markdown, LaTeX or CSV; JSON has the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from attention_outliers.commands.output import Output
from attention_outliers.commands.tables import Table

if TYPE_CHECKING:
    from attention_outliers.papers.results_table import Sheet
    from segment.evaluation.results import ResultCell

FormText = Literal["text", "markdown", "latex", "csv"]
Form = Annotated[FormText, typer.Option("--form", "-f", help="text, markdown, latex or csv.")]


def print_sheet(sheet: Sheet, form: FormText, show: Output) -> None:
    """One sheet; with --json nothing, since its numbers go into the record."""
    from attention_outliers.papers.results_table import rendered

    if form != "text":
        show.result(rendered(sheet, form))
        return
    show.result(Table(heads=sheet.header, rows=sheet.rows, title=sheet.title, right=True).text())
    for note in sheet.notes:
        show.result(note)


def print_cells(cells: Sequence[ResultCell], form: FormText, show: Output) -> None:
    """Results of evaluations: a sheet for each backbone and protocol; CSV and JSON have a row for each result."""
    from attention_outliers.papers.results_table import cell_rows, rows_csv, sheets

    rows = cell_rows(cells)
    show.record["results"] = rows
    if form == "csv":
        show.result(rows_csv(rows))
        return
    for number, sheet in enumerate(sheets(cells)):
        if number:
            show.result("")
        print_sheet(sheet, form, show)
