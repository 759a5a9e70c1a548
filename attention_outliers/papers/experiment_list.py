"""All experiments by name, read from the grids in the papers' folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any

from attention_outliers.papers.experiment import Column, Experiment, Row, Settings
from attention_outliers.papers.printed import row_of
from attention_outliers.papers.table_claims import TableClaim
from diagnostics.registry import unknown_name

PAPERS = ("sfp", "cliptrase", "sc_clip", "clearclip", "recent")


@cache
def experiments() -> Mapping[str, Experiment]:
    """Every experiment by its name, in the papers' order.

    Returns
    -------
    dict of str to Experiment
        Table by name, such as `sc-clip/table-3`: `title`, `source`, `rows`, `columns`.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> ao.experiments()["sc-clip/table-3"].rows[0].name
    'baseline'
    """
    tables: dict[str, Experiment] = {}
    for paper in PAPERS:
        text = files("attention_outliers.papers").joinpath(paper, "tables.json").read_text("utf-8")
        for key, entry in json.loads(text)["experiments"].items():
            tables[key] = _experiment(key, entry)
    return tables


def experiments_named(name: str) -> list[Experiment]:
    """The experiment `sc-clip/table-3`, or with `sc-clip` all of that paper. ValueError for an unknown name."""
    known = experiments()
    if name in known:
        return [known[name]]
    of_paper = [experiment for key, experiment in known.items() if key.startswith(f"{name.rstrip('/')}/")]
    if not of_paper:
        raise unknown_name("experiment", name, known)
    return of_paper


def _experiment(key: str, entry: dict[str, Any]) -> Experiment:
    columns = tuple(
        Column(
            name=column["name"],
            dataset=column.get("dataset", ""),
            metric=column.get("metric", "miou"),
            settings=_settings(column),
            mean_of=tuple(column.get("mean", ())),
        )
        for column in entry["columns"]
    )
    rows = tuple(
        Row(
            name=row["name"],
            method=row.get("method", ""),
            backbone=row.get("backbone", entry["backbone"]),
            protocol=row.get("protocol", entry.get("protocol", "")),
            settings=_settings(row),
            printed=_printed(columns, row),
            note=row.get("note", ""),
        )
        for row in (*entry.get("rows", ()), *_product(entry))
    )
    return Experiment(
        key=key,
        title=entry["title"],
        source=entry["source"],
        kind=entry.get("kind", "segment"),
        columns=columns,
        rows=rows,
        notes=tuple(entry.get("notes", ())),
        claims=tuple(TableClaim(**{**claim, "below": tuple(claim["below"])}) for claim in entry.get("claims", ())),
        doubts={(row, column): why for row, column, why in entry.get("doubtful", ())},
    )


def _settings(entry: Mapping[str, Any]) -> Settings:
    return tuple(sorted(entry.get("settings", {}).items()))


def _printed(columns: tuple[Column, ...], entry: Mapping[str, Any]) -> dict[str, float]:
    """What stands in the row: its own numbers, and beside them those of a row of published.json."""
    printed = entry.get("printed", {})
    if isinstance(printed, list):
        printed = {column.name: value for column, value in zip(columns, printed, strict=True)}
    numbers = {name: float(value) for name, value in printed.items() if value is not None}
    if "published" in entry:
        elsewhere = row_of(*entry["published"])
        for column in columns:
            if column.name not in numbers and column.dataset in elsewhere and column.metric == "miou":
                numbers[column.name] = elsewhere[column.dataset]
    return numbers


def _product(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a figure: every choice of one axis with every one of the others."""
    if "product" not in entry:
        return []
    rows = []
    for choices in product(*entry["product"]["axes"]):
        name = ", ".join(choice["name"] for choice in choices)
        fields = ",".join(choice["fields"] for choice in choices if "fields" in choice)
        row = {"name": name, "method": f"{entry['product']['method']}:{fields}"}
        row |= {key: choice[key] for choice in choices for key in ("backbone", "protocol") if key in choice}
        rows.append(row | {"printed": entry["printed"].get(name, {})})
    return rows
