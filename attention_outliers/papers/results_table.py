"""Cells side by side: methods in rows, data sets in columns, what was published and the difference beside."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from attention_outliers.papers import Published, published
from attention_outliers.papers.printed import openai_architecture
from diagnostics.registry import unknown_name
from segment.evaluation.metrics.bootstrap import FEWEST
from segment.evaluation.protocols.base import CHANGED
from segment.evaluation.results import ResultCell

Form = Literal["text", "markdown", "latex", "csv"]
FORMS: tuple[str, ...] = get_args(Form)

PARTLY, ELSEWHERE = "*", "~"
INTERVAL = (
    "[low, high]: the 95 % interval, that is the middle 95 % of the mIoU when the images are drawn again, with "
    "repetition; other images of this kind would mostly give a number inside"
)
NO_INTERVAL = "[–]: no 95 % interval; it takes at least 2 images to say how far the mIoU moves with other images"
# Every data set and method that a paper has numbers of is there with this one.
PAPERS_BACKBONE = "ViT-B/16"


@dataclass(frozen=True)
class Sheet:
    """One table: cells of one backbone under one protocol. `rows` are texts; `notes` are to be read with them."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def sheets(cells: Sequence[ResultCell]) -> list[Sheet]:
    """A sheet for each backbone and protocol, with all that was changed in it.

    Protocols of several names are one where their hashes are the same on every data set that both were run on, and
    there is such a data set. mIoU in percent with the ends of its 95 % interval; where the very cell was published,
    that number and the difference. `*` marks runs on a part of the data set, `~` numbers that were published under
    another protocol. Of several runs of one cell the one with the most images counts.
    """
    groups: dict[tuple[str, str], list[ResultCell]] = {}
    for cell in cells:
        groups.setdefault((cell.backbone, _protocol_name(cell)), []).append(cell)
    merged: list[list[ResultCell]] = []
    for _, group in sorted(groups.items()):
        place, cells_of_one = len(merged), list(group)
        for number in range(len(merged) - 1, -1, -1):
            if _is_one_protocol(merged[number], cells_of_one):
                place, cells_of_one = number, merged.pop(number) + cells_of_one
        merged.insert(place, cells_of_one)
    return [_sheet(group) for group in merged]


def _protocol_name(cell: ResultCell) -> str:
    """The protocol's name, with what was changed in it."""
    changed = ", ".join(
        departure.removeprefix(CHANGED) for departure in cell.departures if departure.startswith(CHANGED)
    )
    return cell.protocol + (f" ({changed})" if changed else "")


def _is_one_protocol(first: Sequence[ResultCell], second: Sequence[ResultCell]) -> bool:
    """Whether two groups of cells, each of one backbone, were made under the same settings."""
    hashes: list[dict[str, set[str]]] = [{}, {}]
    for by_data_set, cells in zip(hashes, (first, second), strict=True):
        for cell in cells:
            by_data_set.setdefault(cell.dataset, set()).add(cell.hash)
    common = hashes[0].keys() & hashes[1].keys()
    return (
        first[0].backbone == second[0].backbone
        and bool(common)
        and all(hashes[0][name] == hashes[1][name] for name in common)
    )


def _largest(cells: Sequence[ResultCell]) -> dict[tuple[str, str], ResultCell]:
    """(method, data set) -> the cell with the most images."""
    largest: dict[tuple[str, str], ResultCell] = {}
    for cell in sorted(cells, key=lambda counted: counted.images["scored"]):
        largest[cell.method, cell.dataset] = cell
    return largest


def _sheet(group: Sequence[ResultCell]) -> Sheet:
    """The sheet of cells of one backbone and one protocol, whatever names that has."""
    cells, backbone = _largest(group), group[0].backbone
    protocols = list(dict.fromkeys(cell.protocol for cell in group))
    methods = list(dict.fromkeys(method for method, _ in sorted(cells)))
    datasets = list(dict.fromkeys(dataset for _, dataset in sorted(cells, key=lambda pair: pair[1])))
    printed = {key: _published(*key, backbone, protocols) for key in cells}
    compared = {dataset for (_, dataset), number in printed.items() if number}
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
    return Sheet(_title(group, cells), tuple(header), tuple(rows), _notes(datasets, cells, printed))


def _published(method: str, dataset: str, backbone: str, protocols: Sequence[str]) -> Published | None:
    """What was printed for a cell, under one of the protocol's names if there is any."""
    numbers = [number for name in protocols for number in published(method, dataset, backbone, name)]
    return next((number for number in numbers if number.same_protocol), next(iter(numbers), None))


def _title(group: Sequence[ResultCell], cells: Collection[tuple[str, str]]) -> str:
    backbone, names = group[0].backbone, list(dict.fromkeys(map(_protocol_name, group)))
    title = f"mIoU, {backbone}, protocol{'s' if len(names) > 1 else ''} {', '.join(names)}"
    if openai_architecture(backbone) is None and any(published(*key, PAPERS_BACKBONE) for key in cells):
        title += "; other weights than the papers', so no published number"
    return title


def _score(cell: ResultCell | None) -> str:
    if cell is None or cell.miou is None:
        return "–"
    return f"{100 * cell.miou:.2f}{_ends(cell)}{'' if cell.whole else PARTLY}"


def _ends(cell: ResultCell) -> str:
    if cell.images["scored"] < FEWEST:
        return " [–]"
    return "" if cell.low is None or cell.high is None else f" [{100 * cell.low:.1f}, {100 * cell.high:.1f}]"


def _beside(cell: ResultCell | None, number: Published | None) -> list[str]:
    if number is None:
        return ["–", "–"]
    score = f"{number.miou:g}{'' if number.same_protocol else ELSEWHERE}"
    return [score, "–" if cell is None or cell.miou is None else f"{100 * cell.miou - number.miou:+.2f}"]


def _notes(
    datasets: Sequence[str], cells: dict[tuple[str, str], ResultCell], printed: dict[tuple[str, str], Published | None]
) -> tuple[str, ...]:
    notes: list[str] = []
    for dataset in datasets:
        notes += _data_set_notes(dataset, [cell for (_, place), cell in cells.items() if place == dataset])
    many = [cell for cell in cells.values() if cell.images["scored"] >= FEWEST]
    if any(None not in (cell.low, cell.high) for cell in many):
        notes.append(INTERVAL)
    if any(cell.miou is not None and cell not in many for cell in cells.values()):
        notes.append(NO_INTERVAL)
    if any(not cell.whole for cell in cells.values()):
        notes.append(f"{PARTLY} not all images of the data set")
    return (*notes, *_source_notes([number for number in printed.values() if number]))


def _data_set_notes(dataset: str, cells: Sequence[ResultCell]) -> list[str]:
    """The hashes of the protocol on a data set with how many images, and what departs from it."""
    hashes = [
        f"{dataset}: protocol {key}, {_images([cell for cell in cells if cell.hash == key])}"
        for key in sorted({cell.hash for cell in cells})
    ]
    departures = dict.fromkeys(name for cell in cells for name in cell.departures if not name.startswith(CHANGED))
    return hashes + [f"{dataset}: {departure}" for departure in departures]


def _source_notes(numbers: Sequence[Published]) -> list[str]:
    """Where published numbers stand, each source once."""
    notes = []
    if any(not number.same_protocol for number in numbers):
        notes.append(f"{ELSEWHERE} published under another protocol, or quoted from elsewhere")
    for key, number in sorted({number.key: number for number in numbers}.items()):
        notes.append(f"published, {key}: {number.source}" + (f"; {number.note}" if number.note else ""))
    return notes


def _images(cells: Sequence[ResultCell]) -> str:
    counts = []
    for cell in cells:
        left_out = "".join(f", {cell.images[why]} {why}" for why in ("broken", "skipped") if cell.images[why])
        counts.append(f"{cell.images['scored']} of {cell.images['has']} images{left_out}")
    return " and ".join(sorted(set(counts)))


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
    lines = [_comment(sheet.title), rf"\begin{{tabular}}{{l{'r' * (len(sheet.header) - 1)}}}", r"\toprule"]
    lines += [_row(sheet.header), r"\midrule", *map(_row, sheet.rows), r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*lines, *map(_comment, sheet.notes)])


def _comment(text: str) -> str:
    """A comment of one line, whatever the text holds."""
    return f"% {' '.join(text.split())}"


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
