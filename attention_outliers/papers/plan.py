"""What an experiment comes down to: runs, each of several methods on one data set under one protocol."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from attention_outliers.papers.experiment import Experiment, Settings, TableCell
from attention_outliers.papers.experiment_list import experiments
from diagnostics.images import FileError
from diagnostics.registry import parse_spec, unknown_name
from segment.datasets import DatasetError, needs_root, open_dataset
from segment.datasets.on_disk import OnDisk
from segment.encoders.second_backbone import SELF
from segment.evaluation.job import with_protocol
from segment.evaluation.protocols import Protocol, protocol_for
from segment.methods import METHODS

# What stands for every data set and model where none is at hand.
DRAWN, POCKET = "shapes", "pocket"

# `vfm=timm:name` or `vfm=timm(name)` within a spec.
_SECOND = re.compile(r"\bvfm=[^,()]+(\([^()]*\))?")

# Folder by data set; that under "" is where the others are looked for.
Roots = Mapping[str, Path]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is run of an experiment, and on what.

    `data_sets`: only the columns of these, all if empty. `backbone` stands for every row's own. `offline` puts drawn
    scenes in the place of every data set, the pocket model in that of every backbone unless `backbone` names one, and
    the first backbone in that of a second unless `second` names one. `second` stands for the second backbone of every
    row that has one. `settings` change fields of every row's protocol. `limit` takes the first
    images only.
    """

    data_sets: tuple[str, ...] = ()
    backbone: str = ""
    second: str = ""
    offline: bool = False
    settings: Settings = ()
    limit: int | None = None

    def backbone_of(self, place: TableCell) -> str:
        """The backbone that a cell is run with."""
        return self.backbone or (POCKET if self.offline else place.row.backbone)

    def dataset_of(self, place: TableCell) -> str:
        """The data set that a cell is run on."""
        return DRAWN if self.offline else place.column.dataset

    def method_of(self, place: TableCell) -> str:
        """The spec that a cell is run with: its second backbone, where it has one, is the one asked for."""
        spec = place.row.method
        family, colon, rest = self.second.partition(":")
        second = f"{family}({rest})" if colon else family
        if self.offline and not second:
            second = SELF
        if not second or not has_second(spec):
            return spec
        if _SECOND.search(spec) is None:
            return f"{spec}{',' if ':' in spec else ':'}vfm={second}"
        return _SECOND.sub(lambda _: f"vfm={second}", spec)

    def wants(self, place: TableCell) -> bool:
        """Whether a cell is to be run."""
        asked = not self.data_sets or parse_spec(place.column.dataset)[0] in self.data_sets
        return place.runs and asked


def has_second(spec: str) -> bool:
    """Whether a row's method looks at a second backbone, by its spec or by its nature."""
    if parse_spec(spec)[0] not in METHODS:  # a way to classify
        return False
    return _SECOND.search(spec) is not None or METHODS.build(spec).settings().get("vfm") not in (None, SELF)


class Group(NamedTuple):
    """What the cells of one run have in common. `settings` change fields of the protocol."""

    backbone: str
    dataset: str
    protocol: str
    settings: Settings

    def protocol_value(self) -> Protocol:
        """The protocol with its settings; ValueError where it has none for the data set."""
        return protocol_for(self.protocol, self.dataset, dict(self.settings))

    def named(self, method: str) -> str:
        """The method's spec as results have it: with what the protocol sets for its own method."""
        return with_protocol((method,), self.protocol_value())[0]

    def folder(self, methods: Sequence[str], limit: int | None) -> str:
        """A name for the folder of the run of these methods: the same ones go on where they were."""
        content = json.dumps([*self, list(methods), limit])
        mark = hashlib.sha256(content.encode()).hexdigest()[:10]
        return f"{parse_spec(self.dataset)[0]}-{self.protocol}-{mark}"


def groups(
    experiment: Experiment, choice: Selection
) -> tuple[dict[Group, list[TableCell]], dict[tuple[str, str], str]]:
    """The cells by run, in the table's order; and (row, column) -> why, of those that no protocol has a setting for.

    ValueError where a data set is asked for that the table does not have.
    """
    for name in choice.data_sets:
        if name not in experiment.data_sets:
            raise missing_data_set(name, [experiment])
    cells: dict[Group, list[TableCell]] = {}
    left_out: dict[tuple[str, str], str] = {}
    for place in experiment.places():
        if not choice.wants(place):
            continue
        settings = dict(place.row.settings) | dict(place.column.settings) | dict(choice.settings)
        group = Group(
            choice.backbone_of(place), choice.dataset_of(place), place.row.protocol, tuple(sorted(settings.items()))
        )
        try:
            if experiment.kind != "classify":
                group.protocol_value()
        except ValueError:
            reason = f"protocol {group.protocol} has no setting for {group.dataset}"
            left_out[place.row.name, place.column.name] = reason
        else:
            row = replace(place.row, method=choice.method_of(place))
            cells.setdefault(group, []).append(place._replace(row=row))
    return cells, left_out


def missing_data_set(name: str, tables: Sequence[Experiment]) -> ValueError:
    """The error for a data set that none of some tables has: says which other table has it, the same paper's first."""
    known = {column for table in tables for column in table.data_sets}
    papers = {table.key.partition("/")[0] for table in tables}
    others = [key for key, table in experiments().items() if name in table.data_sets]
    near = [key for key in others if key.partition("/")[0] in papers] or others
    if not near:
        return unknown_name("data set", name, known)
    what = f"`{tables[0].key}` has" if len(tables) == 1 else "these tables have"
    return ValueError(
        f"{what} no data set `{name}`, only {', '.join(sorted(known))}; {', '.join(f'`{key}`' for key in near)} "
        f"{'has' if len(near) == 1 else 'have'} it."
    )


def methods_of(places: Sequence[TableCell]) -> list[str]:
    """The methods of some cells, each once."""
    return list(dict.fromkeys(place.row.method for place in places))


def find_root(dataset: str, roots: Roots) -> Path | None:
    """Where a data set lies: what `roots` says, or the folder "" of it, or one directly below that holds it.

    None for drawn ones. A folder that holds all of it goes before one that holds a part. DatasetError where none does,
    ValueError where no root is given.
    """
    name = parse_spec(dataset)[0]
    if not needs_root(name):
        return None
    if name in roots:
        return roots[name]
    if "" not in roots:
        raise ValueError(f"`{name}` lies on disk: give the folder that holds the data sets, or {name}=FOLDER, as root.")
    base = roots[""]
    partly = None
    below = sorted(path for path in base.iterdir() if path.is_dir()) if base.is_dir() else []
    for folder in (base, *below):
        try:
            opened = open_dataset(dataset, folder)
        except FileError:
            continue
        if not isinstance(opened, OnDisk) or opened.expected in (None, len(opened)):
            return folder
        partly = partly or folder
    if partly is None:
        try:
            open_dataset(dataset, base)
        except FileError as error:
            raise DatasetError(
                base, f"holds no `{name}`, nor does a folder directly below", f"Give its own root: {name}=FOLDER"
            ) from error
    return partly


def narrowed(
    tables: Sequence[Experiment], rows: Sequence[str], data_sets: Sequence[str]
) -> list[tuple[Experiment, tuple[str, ...]]]:
    """The tables that have any of the rows and any of the data sets, with these rows alone, and these data sets.

    Nothing asked for is everything. ValueError for what no table has, and where no table has both.
    """
    for row in rows:
        if not any(table.rows_named(row) for table in tables):
            raise unknown_name("row", row, {entry.name for table in tables for entry in table.rows})
    for data_set in data_sets:
        if not any(data_set in table.data_sets for table in tables):
            raise missing_data_set(data_set, tables)
    narrower = []
    for table in tables:
        kept_rows = [row for row in rows if table.rows_named(row)]
        kept_sets = tuple(name for name in data_sets if name in table.data_sets)
        if bool(kept_rows) == bool(rows) and bool(kept_sets) == bool(data_sets):
            narrower.append((table.only(kept_rows) if kept_rows else table, kept_sets))
    if not narrower:
        raise ValueError(
            f"no table has rows {', '.join(rows)} on {', '.join(data_sets)}. See `outliers reproduce list`."
        )
    return narrower
