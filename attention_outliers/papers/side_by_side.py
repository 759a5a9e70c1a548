"""Ours against theirs, as a sheet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from attention_outliers.papers.experiment import Column, Experiment, Row
from attention_outliers.papers.plan import DRAWN, Selection, has_second
from attention_outliers.papers.printed import same_weights
from attention_outliers.papers.reproduce import Reproduction
from attention_outliers.papers.results_table import Sheet

PARTLY, DOUBTFUL, NOTHING = "*", "?", "–"
# Digits of our numbers by metric; two for all others.
DIGITS: Mapping[str, int] = {"params": 1}


def side_by_side(result: Reproduction) -> Sheet:
    """Rows and columns as in the paper: our number, the printed one and the difference.

    Averages of ours are means of our own numbers. `*` marks numbers of a part of the images, `?` printed ones that
    the sources contradict. There is no difference on drawn scenes, nor with other weights or settings than the paper's.
    """
    experiment = result.experiment
    comparable = any(is_comparable(result.choice, row) for row in experiment.rows)
    ours = {row.name: _with_averages(result, row) for row in experiment.rows}
    shown = [column for column in experiment.columns if _is_shown(column, result)]
    measured = {column.name for column in shown if any(column.name in values for values in ours.values())}
    parts = {
        column: Parts(
            ours=column.name in measured or not _is_printed(column, experiment),
            printed=_is_printed(column, experiment),
            difference=_is_printed(column, experiment) and column.name in measured and comparable,
        )
        for column in shown
    }
    header = ["method"]
    for column, part in parts.items():
        header += [column.name] if part.ours else []
        header += ["printed" if column.name in measured else f"{column.name}, printed"] if part.printed else []
        header += ["difference"] if part.difference else []
    rows = []
    for row in experiment.rows:
        values = [row.name]
        for column, part in parts.items():
            values += _cells(result, row, column, ours[row.name].get(column.name), part)
        rows.append(tuple(values))
    return Sheet(_title(result), tuple(header), tuple(rows), _notes(result))


def _title(result: Reproduction) -> str:
    title = f"{result.experiment.key}: {result.experiment.title}"
    chosen = result.choice
    changed = ", ".join(f"{name}={value}" for name, value in chosen.settings)
    if changed:
        title += f"; ours with {changed}, not the paper's settings: no difference to it"
    rows = [row for row in result.experiment.rows if row.method]
    others = [row.backbone for row in rows if chosen.backbone and not same_weights(chosen.backbone, row.backbone)]
    if chosen.second and not chosen.offline and any(has_second(row.method) for row in rows):
        title += f"; second backbone {chosen.second}: no difference to the paper where there is one"
    if not others or chosen.offline:  # a note says what drawn scenes are
        return title
    theirs = ", ".join(dict.fromkeys(others))
    return f"{title}; ours with {chosen.backbone}, not the weights of the paper ({theirs}): no difference to it"


def is_comparable(chosen: Selection, row: Row) -> bool:
    """Whether our number of a row may be held against the paper's: its data and settings, and weights by their spec."""
    if chosen.offline or chosen.settings or (chosen.second and has_second(row.method)):
        return False
    return not chosen.backbone or same_weights(chosen.backbone, row.backbone)


class Parts(NamedTuple):
    """What the sheet has of a column: our numbers, the printed ones, their difference."""

    ours: bool
    printed: bool
    difference: bool


def _is_printed(column: Column, experiment: Experiment) -> bool:
    return any(column.name in row.printed for row in experiment.rows)


def _cells(result: Reproduction, row: Row, column: Column, value: float | None, part: Parts) -> list[str]:
    """The words of one row for one column, one for each of its parts."""
    experiment, printed = result.experiment, row.printed.get(column.name)
    cells = []
    if part.ours:
        cells.append(_number(value, column) + (PARTLY if _partly(result, row, column) else ""))
    if part.printed:
        doubt = DOUBTFUL if (row.name, column.name) in experiment.doubts else ""
        cells.append(NOTHING if printed is None else f"{printed:.{_printed_digits(experiment, column)}f}{doubt}")
    if part.difference:
        missing = value is None or printed is None or not is_comparable(result.choice, row)
        cells.append(NOTHING if missing else f"{value - printed:+.{_digits(column)}f}")  # type: ignore[operator]
    return cells


def _is_shown(column: Column, result: Reproduction) -> bool:
    """All columns, unless only some data sets were asked for."""
    names = result.choice.data_sets
    return not names or (bool(column.dataset) and column.dataset.partition(":")[0] in names)


def _with_averages(result: Reproduction, row: Row) -> dict[str, float]:
    """Our numbers of a row by column, averages among them."""
    values = {name: value for (of, name), value in result.ours.items() if of == row.name}
    for column in result.experiment.columns:
        average = result.experiment.average(column, values)
        if average is not None:
            values[column.name] = average
    return values


def _partly(result: Reproduction, row: Row, column: Column) -> bool:
    return any((row.name, name) in result.partly for name in (column.mean_of or (column.name,)))


def _digits(column: Column) -> int:
    return DIGITS.get(column.metric, 2)


def _printed_digits(experiment: Experiment, column: Column) -> int:
    """As many digits as the column's numbers are printed with."""
    texts = [f"{row.printed[column.name]:g}" for row in experiment.rows if column.name in row.printed]
    return max(1, max(len(text.partition(".")[2]) for text in texts))


def _number(value: float | None, column: Column) -> str:
    return NOTHING if value is None else f"{value:.{_digits(column)}f}"


def _notes(result: Reproduction) -> tuple[str, ...]:
    experiment = result.experiment
    notes = [f"printed: {experiment.source}", *experiment.notes]
    if result.choice.offline:
        notes.append(
            f"every data set is `{DRAWN}`, drawn scenes, and the model is "
            f"`{result.choice.backbone or 'pocket'}`{_second(result.choice)}: this shows that "
            "the grid runs, not the paper's numbers"
        )
    if result.partly:
        notes.append(f"{PARTLY} not all images of the data set")
    if result.choice.backbone and not result.choice.offline:
        notes.append(f"ours: all rows with {result.choice.backbone}")
    places = [(row.name, column.name) for row in experiment.rows for column in experiment.columns if column.dataset]
    notes += [f"the paper: {claim.says}; ours: {claim.verdict(result.ours, places)}" for claim in experiment.claims]
    notes += [f"{row.name}: {row.note}" for row in experiment.rows if row.note]
    notes += [f"{DOUBTFUL} {doubt}" for doubt in _doubts(experiment)]
    return (*notes, *_not_run(experiment, result))


def _second(choice: Selection) -> str:
    return f", its second `{choice.second}`" if choice.second else ""


def _doubts(experiment: Experiment) -> list[str]:
    """A line for each reason to doubt numbers of a row."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for (row, column), why in experiment.doubts.items():
        grouped.setdefault((row, why), []).append(column)
    return [f"{row} ({', '.join(columns)}): {why}" for (row, why), columns in grouped.items()]


def _not_run(experiment: Experiment, result: Reproduction) -> list[str]:
    """A line for each reason, with the cells that it holds for."""
    by_reason: dict[str, dict[str, list[str]]] = {}
    for (row, column), reason in result.reasons.items():
        by_reason.setdefault(reason, {}).setdefault(row, []).append(column)
    lines = []
    for reason, rows in by_reason.items():
        columns = list(dict.fromkeys(name for names in rows.values() for name in names))
        which = "all rows" if len(rows) == sum(bool(row.method) for row in experiment.rows) else "; ".join(rows)
        lines.append(f"not run, {which} ({', '.join(columns)}): {reason}")
    return lines
