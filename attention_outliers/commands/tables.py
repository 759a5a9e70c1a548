"""Tables in the terminal: as wide as it is, no head, name or number cut."""

from __future__ import annotations

import math
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

GAP = 2  # blanks between columns
NARROWEST = 40  # columns of the terminal; a narrower one wraps lines by itself
TEXT = 18  # columns that a cell of text needs at least, if it is longer than that
INDENT = 2  # of what stands below a name that has a line of its own
NOTHING = "-"


def printed_width() -> int:
    """Columns of the terminal (COLUMNS, if it is a number above 0); 80 where there is none."""
    return max(shutil.get_terminal_size((80, 24)).columns, NARROWEST)


def is_styled() -> bool:
    """Whether standard output takes bold letters: a terminal, and NO_COLOR is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of values under heads. The first column names the row.

    A column without texts is one of numbers, set to the right; `right` sets columns of texts to the right, too.
    `digits` are those of floats, for all or by head.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[Any]]
    title: str = ""
    caption: str = ""
    digits: int | Mapping[str, int] = 3
    right: bool = False

    @classmethod
    def of_frame(cls, frame: DataFrame, title: str = "", *, digits: int | Mapping[str, int] = 3) -> Table:
        """A frame, its index first; a missing whole number is None."""
        from pandas import NA

        heads = [str(frame.index.name or ""), *map(str, frame.columns)]
        cells = frame.astype(object).to_numpy().tolist()
        rows = [
            [name, *(None if value is NA else value for value in row)]
            for name, row in zip(frame.index, cells, strict=True)
        ]
        return cls(heads=heads, rows=rows, title=title, digits=digits)

    def records(self) -> list[dict[str, Any]]:
        """The rows as objects, for JSON: values as they are, not rounded."""
        heads = [head or "name" for head in self.heads]
        return [dict(zip(heads, row, strict=True)) for row in self.rows]

    def text(self) -> str:
        """The table for this terminal."""
        return "\n".join(self.lines(printed_width(), styled=is_styled()))

    def lines(self, width: int, *, styled: bool = False) -> list[str]:
        """The table as lines of at most `width` signs, unless one word is longer."""
        cells = [[self._text(value, head) for value, head in zip(row, self.heads, strict=True)] for row in self.rows]
        columns = [_Column(head, [row[place] for row in cells], self._is_right(place))
                   for place, head in enumerate(self.heads)]  # fmt: skip
        lines = [bold(line, styled) for line in wrapped(self.title, width)] if self.title else []
        if any(not column.right for column in columns[1:]):
            lines += _of_texts(columns, width, styled)
        else:
            lines += _of_numbers(columns, width, styled)
        return lines + (wrapped(self.caption, width) if self.caption else [])

    def _is_right(self, place: int) -> bool:
        values = [row[place] for row in self.rows]
        numbers = all(not isinstance(value, str) for value in values)
        return (self.right and place > 0) or (numbers and any(value is not None for value in values))

    def _text(self, value: Any, head: str) -> str:
        if isinstance(value, str):
            return " ".join(_split(value))
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return NOTHING
        if isinstance(value, float):
            return f"{value:.{self.digits if isinstance(self.digits, int) else self.digits.get(head, 3)}f}"
        return str(value)


@dataclass(frozen=True)
class _Column:
    head: str
    cells: list[str]
    right: bool

    @property
    def natural(self) -> int:
        """The width in which nothing is wrapped."""
        return max(map(len, [self.head, *self.cells]))

    @property
    def least(self) -> int:
        """The width that no word exceeds; a cell to the right is never wrapped."""
        words = [word for text in ([] if self.right else self.cells) for word in _words(text)]
        return max(map(len, [*_split(self.head), *words, *(self.cells if self.right else [""]), ""]))


def _of_numbers(columns: Sequence[_Column], width: int, styled: bool) -> list[str]:
    """Blocks of as many columns as fit, each with the names; long names have a line of their own."""
    name, rest = columns[0], columns[1:]
    if not rest:
        return _block([name], [min(name.natural, width)], styled)
    widest = max(column.least for column in rest)
    beside = name.natural <= width // 2 and name.natural + GAP + widest <= width
    room = width - (name.natural + GAP if beside else INDENT)
    lines: list[str] = []
    start = 0
    while start < len(rest):
        end = start + 1
        while end < len(rest) and sum(column.least + GAP for column in rest[start : end + 1]) - GAP <= room:
            end += 1
        block = rest[start:end]
        whole = end - start == len(rest) and sum(column.natural + GAP for column in rest) - GAP <= room
        widths = [column.natural if whole else column.least for column in block]
        if beside:
            lines += _block([name, *block], [name.natural, *widths], styled)
        else:
            lines += _below_names(name, block, widths, width, styled)
        start = end
    return lines


def _below_names(
    name: _Column, columns: Sequence[_Column], widths: Sequence[int], width: int, styled: bool
) -> list[str]:
    """The name on a line of its own, its numbers below it."""
    heads = _row([column.head for column in columns], columns, widths, low=True)
    lines = [bold(" " * INDENT + line, styled) for line in heads]
    for place, text in enumerate(name.cells):
        lines += [bold(line, styled) for line in wrapped(text, width)]
        cells = [column.cells[place] for column in columns]
        lines += [" " * INDENT + line for line in _row(cells, columns, widths)]
    return lines


def _of_texts(columns: Sequence[_Column], width: int, styled: bool) -> list[str]:
    """Columns of text share what numbers and short texts leave; where that is too little, each row is a list."""
    widths = [column.natural for column in columns]
    room = width - GAP * (len(columns) - 1)
    if sum(widths) > room:
        long = [place for place, column in enumerate(columns) if not column.right and widths[place] > TEXT]
        for place, column in enumerate(columns):
            if place not in long:
                widths[place] = column.least if column.right else widths[place]
        left = room - sum(width for place, width in enumerate(widths) if place not in long)
        if not long or left < sum(max(TEXT, min(columns[place].least, width // 3)) for place in long):
            return _as_lists(columns, width, styled)
        for place, share in zip(long, _shares([columns[place] for place in long], left), strict=True):
            widths[place] = share
    return _block(columns, widths, styled)


def _shares(columns: Sequence[_Column], room: int) -> list[int]:
    """Widths of columns of text that sum up to `room`: the shorter ones get what they need first."""
    shares = [0] * len(columns)
    order = sorted(range(len(columns)), key=lambda place: columns[place].natural)
    for number, place in enumerate(order):
        even = room // (len(order) - number)
        least = max(even, min(columns[place].least, room - TEXT * (len(order) - number - 1)))
        shares[place] = min(columns[place].natural, least)
        room -= shares[place]
    return shares


def _as_lists(columns: Sequence[_Column], width: int, styled: bool) -> list[str]:
    """Each row as its name, then `head: text` below it."""
    lines: list[str] = []
    for row in zip(*(column.cells for column in columns), strict=True):
        lines += [bold(line, styled) for line in wrapped(row[0], width)]
        for column, text in zip(columns[1:], row[1:], strict=True):
            if text:
                first, *rest = wrapped(f"{column.head}: {text}", width - 2 * INDENT)
                lines += [" " * INDENT + first, *(" " * 2 * INDENT + line for line in rest)]
    return lines


def _block(columns: Sequence[_Column], widths: Sequence[int], styled: bool) -> list[str]:
    """Heads, then rows, whose names are bold."""
    lines = [bold(line, styled) for line in _row([column.head for column in columns], columns, widths, low=True)]
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines += [
            bold(line[: widths[0]].rstrip(), styled) + line[len(line[: widths[0]].rstrip()) :]
            for line in _row(cells, columns, widths)
        ]
    return lines


def _row(cells: Sequence[str], columns: Sequence[_Column], widths: Sequence[int], *, low: bool = False) -> list[str]:
    """Cells side by side, wrapped; `low` ones end on the same line, as heads do."""
    pieces = [wrapped(text, width) for text, width in zip(cells, widths, strict=True)]
    height = max(map(len, pieces))
    blank = [[""] * (height - len(piece)) for piece in pieces]
    pieces = [gap + piece if low else piece + gap for piece, gap in zip(pieces, blank, strict=True)]
    return [
        (" " * GAP)
        .join(
            text.rjust(width) if column.right else text.ljust(width)
            for text, column, width in zip(line, columns, widths, strict=True)
        )
        .rstrip()
        for line in zip(*pieces, strict=True)
    ]


def _split(text: str) -> list[str]:
    """Words of a text; a no-break space (U+00A0) keeps two of them together."""
    return re.findall(r"[^ \t\r\n]+", text)


def _words(text: str) -> list[str]:
    """Words of a text; a spec or path may also be broken behind `,` `:` `/` `@` `+`."""
    return [piece for word in _split(text) for piece in re.findall(r"[^,:/@+]*[,:/@+]+|[^,:/@+]+", word)]


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` signs, broken between words; a word that is longer is broken behind `,` `:` `/`."""
    lines = [""]
    for word in _split(text):
        room = width - len(lines[-1]) - 1
        if len(word) <= room or not lines[-1]:
            lines[-1] = f"{lines[-1]} {word}".strip()
        else:
            lines.append(word)
        if len(lines[-1]) > width:
            lines[-1:] = _broken(lines[-1], width)
    return lines


def _broken(word: str, width: int) -> list[str]:
    lines = [""]
    for piece in _words(word):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return lines


def bold(text: str, styled: bool) -> str:
    """The text in bold letters of a terminal."""
    return f"\x1b[1m{text}\x1b[0m" if styled and text else text
