"""Cells side by side: methods in rows, data sets in columns, what was published and the difference beside."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from attention_outliers.papers import Published, published
from diagnostics.registry import unknown_name
from segment.evaluation.protocols.base import CHANGED
from segment.evaluation.results import ResultCell

Form = Literal["text", "markdown", "latex", "csv"]
FORMS: tuple[str, ...] = get_args(Form)

PARTLY, ELSEWHERE = "*", "~"


@dataclass(frozen=True)
class Sheet:
    """One table: cells of one backbone under one protocol. `rows` are texts; `notes` are to be read with them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def sheets(cells: Sequence[ResultCell]) -> list[Sheet]:
    """A sheet for each backbone and protocol, with all that was changed in it.

    mIoU in percent with the ends of its 95 % interval; where the very cell was published, that number and the
    difference. `*` marks runs on a part of the data set, `~` numbers that were published under another protocol. Of
    several runs of one cell the one with the most images counts.
    """
    groups: dict[tuple[str, str, str], list[ResultCell]] = {}
    for cell in cells:
        changed = ", ".join(one.removeprefix(CHANGED) for one in cell.departures if one.startswith(CHANGED))
        groups.setdefault((cell.backbone, cell.protocol, changed), []).append(cell)
    return [_sheet(*key, _largest(some)) for key, some in sorted(groups.items())]


def _largest(cells: Sequence[ResultCell]) -> dict[tuple[str, str], ResultCell]:
    """(method, data set) -> the cell with the most images."""
    found: dict[tuple[str, str], ResultCell] = {}
    for cell in sorted(cells, key=lambda one: one.images["scored"]):
        found[cell.method, cell.dataset] = cell
    return found


def _sheet(backbone: str, protocol: str, changed: str, cells: dict[tuple[str, str], ResultCell]) -> Sheet:
    methods = list(dict.fromkeys(method for method, _ in sorted(cells)))
    datasets = list(dict.fromkeys(dataset for _, dataset in sorted(cells, key=lambda pair: pair[1])))
    printed = {key: next(iter(published(*key, backbone, protocol)), None) for key in cells}
    compared = {dataset for (_, dataset), found in printed.items() if found}
    header = ["method"]
    for dataset in datasets:
        header += [dataset, "published", "difference"] if dataset in compared else [dataset]
    rows = []
    for method in methods:
        row = [method]
        for dataset in datasets:
            cell, number = cells.get((method, dataset)), printed.get((method, dataset))
            row.append(_score(cell))
            if dataset in compared:
                row += _beside(cell, number)
        rows.append(tuple(row))
    title = f"mIoU, {backbone}, protocol {protocol}" + (f" ({changed})" if changed else "")
    return Sheet(title, tuple(header), tuple(rows), _notes(datasets, cells, printed))


def _score(cell: ResultCell | None) -> str:
    if cell is None or cell.miou is None:
        return "–"
    ends = "" if cell.low is None or cell.high is None else f" [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"
    return f"{100 * cell.miou:.2f}{ends}{'' if cell.whole else PARTLY}"


def _beside(cell: ResultCell | None, number: Published | None) -> list[str]:
    if number is None:
        return ["–", "–"]
    said = f"{number.miou:g}{'' if number.same_protocol else ELSEWHERE}"
    return [said, "–" if cell is None or cell.miou is None else f"{100 * cell.miou - number.miou:+.2f}"]


def _notes(
    datasets: Sequence[str], cells: dict[tuple[str, str], ResultCell], printed: dict[tuple[str, str], Published | None]
) -> tuple[str, ...]:
    notes = []
    for dataset in datasets:
        some = [cell for (_, place), cell in cells.items() if place == dataset]
        for key in sorted({cell.hash for cell in some}):
            notes.append(f"{dataset}: protocol {key}, {_images([cell for cell in some if cell.hash == key])}")
        for departure in dict.fromkeys(one for cell in some for one in cell.departures if not one.startswith(CHANGED)):
            notes.append(f"{dataset}: {departure}")
    if any(not cell.whole for cell in cells.values()):
        notes.append(f"{PARTLY} not all images of the data set")
    if any(found and not found.same_protocol for found in printed.values()):
        notes.append(f"{ELSEWHERE} published under another protocol, or quoted from elsewhere")
    sources = {found.key: found for found in printed.values() if found}
    for key, found in sorted(sources.items()):
        notes.append(f"published, {key}: {found.source}" + (f"; {found.note}" if found.note else ""))
    return tuple(notes)


def _images(cells: Sequence[ResultCell]) -> str:
    said = []
    for cell in cells:
        left_out = "".join(f", {cell.images[why]} {why}" for why in ("broken", "skipped") if cell.images[why])
        said.append(f"{cell.images['scored']} of {cell.images['has']} images{left_out}")
    return " and ".join(sorted(set(said)))


def rendered(sheet: Sheet, form: Form = "text") -> str:
    """The sheet as text for a terminal, as Markdown, LaTeX (booktabs) or CSV."""
    if form not in FORMS:
        raise unknown_name("form of a table", form, FORMS)
    return _RENDER[form](sheet)


def _text(sheet: Sheet) -> str:
    every = [sheet.header, *sheet.rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(sheet.header))]
    lines = [sheet.title]
    for row in every:
        first, *rest = (
            value.ljust(width) if column == 0 else value.rjust(width)
            for column, (value, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *rest]).rstrip())
    lines.insert(2, "-" * max(map(len, lines[1:])))
    return "\n".join([*lines, *sheet.notes])


def _markdown(sheet: Sheet) -> str:
    lines = [f"**{sheet.title}**", "", _piped(sheet.header), _piped(["---", *["---:"] * (len(sheet.header) - 1)])]
    lines += [_piped(row) for row in sheet.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in sheet.notes)])


def _piped(values: Sequence[str]) -> str:
    return "| " + " | ".join(value.replace("|", "\\|") for value in values) + " |"


def _latex(sheet: Sheet) -> str:
    lines = [f"% {sheet.title}", rf"\begin{{tabular}}{{l{'r' * (len(sheet.header) - 1)}}}", r"\toprule"]
    lines += [_row(sheet.header), r"\midrule", *map(_row, sheet.rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *(f"% {note}" for note in sheet.notes)])


def _row(values: Sequence[str]) -> str:
    return " & ".join(map(_escaped, values)) + r" \\"


def _escaped(text: str) -> str:
    signs = {"–": "--", "~": r"\textasciitilde{}", "\\": r"\textbackslash{}", "^": r"\textasciicircum{}"}
    return "".join(signs.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in text)


def _csv(sheet: Sheet) -> str:
    return rows_csv([{"table": sheet.title} | dict(zip(sheet.header, row, strict=True)) for row in sheet.rows])


def rows_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as CSV, its heads first; None is an empty field."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def cell_rows(cells: Sequence[ResultCell]) -> list[dict[str, Any]]:
    """Each cell as a row of values: whose result it is, the numbers as shares, and what was published, in percent."""
    rows = []
    for cell in cells:
        number = next(iter(published(cell.method, cell.dataset, cell.backbone, cell.protocol)), None)
        about = {name: getattr(cell, name) for name in ("backbone", "protocol", "hash", "dataset", "method")}
        numbers = {
            name: getattr(cell, name) for name in ("miou", "low", "high", "macc", "pacc", "fwiou", "boundary_iou")
        }
        images = {"images": cell.images["scored"], "of": cell.images["has"]}
        rows.append(
            about
            | numbers
            | images
            | {
                "published": None if number is None else number.miou,
                "same_protocol": None if number is None else number.same_protocol,
            }
        )
    return rows


_RENDER: dict[str, Callable[[Sheet], str]] = {
    "text": _text,
    "markdown": _markdown,
    "latex": _latex,
    "csv": _csv,
}
