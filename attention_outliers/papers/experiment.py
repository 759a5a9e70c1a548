"""What an experiment is: a paper's table as rows of methods, columns of numbers, and what the paper printed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from attention_outliers.papers.table_claims import TableClaim
from diagnostics.registry import parse_spec, unknown_name

# The backbone that rows of a table of several backbones begin with.
BACKBONE = re.compile(r"^ViT-\w+/\d+\s+", re.IGNORECASE)

Kind = Literal["segment", "classify", "cost"]
Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of numbers: `metric` on `dataset`, with `settings` changed in the protocol; or the mean of others.

    `metric` is a field of segment.evaluation.results.ResultCell, top1 or top5 of a classification; gflops, params, fps.
    A column without data set and without `mean_of` is printed only.
    """

    name: str
    dataset: str = ""
    metric: str = "miou"
    settings: Settings = ()
    mean_of: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row: `method` is a spec, or "" where there is none for it here and numbers are only printed.

    `printed`: column name -> number, in the paper's unit. `protocol` and `backbone` are those of this row.
    """

    name: str
    method: str = ""
    backbone: str
    protocol: str
    settings: Settings = ()
    printed: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


class TableCell(NamedTuple):
    """A cell of the table: its row and column, what was printed there (None for nothing), and what speaks against it.

    `runs` tells whether it is to be measured; averages follow from others.
    """

    row: Row
    column: Column
    printed: float | None
    doubt: str
    runs: bool


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One table of a paper. `key` is its name, such as `sc-clip/table-3`; `source` says where its numbers stand.

    `doubts`: (row, column) -> why the sources themselves contradict the printed number. `claims`: what the paper says
    that the table shows.
    """

    key: str
    title: str
    source: str
    kind: Kind = "segment"
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    doubts: Mapping[tuple[str, str], str] = field(default_factory=dict)
    claims: tuple[TableClaim, ...] = ()

    @property
    def data_sets(self) -> tuple[str, ...]:
        """Names of the data sets that its columns are measured on, each once."""
        return tuple(dict.fromkeys(parse_spec(column.dataset)[0] for column in self.columns if column.dataset))

    def rows_named(self, text: str) -> list[str]:
        """Names of the rows that a text means, none if it means none.

        The row of that name; without, the first one that has it behind its backbone (`CLIP` is `ViT-B/16 CLIP`); and
        without, those with its words side by side in theirs. `SC-CLIP` is one word, `SCR+D` two. Upper or lower case
        is the same.
        """
        names, words = [row.name for row in self.rows], _words(text)
        whole = [name for name in names if name.casefold() == text.strip().casefold()]
        if whole or not words:
            return whole
        bare = [name for name in names if BACKBONE.sub("", name).casefold() == text.strip().casefold()]
        return bare[:1] or [name for name in names if _contains(_words(name), words)]

    def only(self, texts: Sequence[str]) -> Experiment:
        """The table with only the rows that some texts mean, in its own order. UnknownName where a text means none."""
        wanted: set[str] = set()
        for text in texts:
            names = self.rows_named(text)
            if not names:
                raise unknown_name(f"row of `{self.key}`", text, [row.name for row in self.rows])
            wanted |= set(names)
        return replace(
            self,
            rows=tuple(row for row in self.rows if row.name in wanted),
            doubts={where: why for where, why in self.doubts.items() if where[0] in wanted},
        )

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)

    def places(self) -> Iterator[TableCell]:
        """All cells, row by row."""
        for row in self.rows:
            for column in self.columns:
                yield TableCell(
                    row,
                    column,
                    row.printed.get(column.name),
                    self.doubts.get((row.name, column.name), ""),
                    bool(row.method and column.dataset),
                )

    def average(self, column: Column, values: Mapping[str, float]) -> float | None:
        """The mean that the column stands for; None where one of its numbers is missing."""
        if not column.mean_of or any(name not in values for name in column.mean_of):
            return None
        return sum(values[name] for name in column.mean_of) / len(column.mean_of)


def _words(text: str) -> list[str]:
    """Words of a row's name: between blanks and pluses, without the brackets and commas around them."""
    words = (word.strip("(){}[],;:") for word in re.split(r"[\s+]+", text.casefold()))
    return [word for word in words if word]


def _contains(words: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether the wanted words stand side by side among the words."""
    starts = range(len(words) - len(wanted) + 1)
    return any(list(words[start : start + len(wanted)]) == list(wanted) for start in starts)
