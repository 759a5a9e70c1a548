"""Tables as figures take them: the columns there must be, the layers to draw, and detectors' names in few letters."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from diagnostics.registry import parse_spec
from figures.curves.layer_axis import chosen_layers


def needs_columns(table: pd.DataFrame, *columns: str, figure: str) -> None:
    """ValueError unless the table has these columns and at least one row."""
    if missing := [column for column in columns if column not in table.columns]:
        had = ", ".join(map(str, table.columns)) or "none"
        raise ValueError(
            f"{figure} should get a table with the columns {', '.join(columns)}; this one lacks "
            f"{', '.join(missing)} and has {had}."
        )
    if table.empty:
        raise ValueError(f"{figure} should get a table with at least one row; this one is empty.")


def table_layers(table: pd.DataFrame, layers: Sequence[int] | None, *, most: int) -> list[int]:
    """The layers asked for, negative ones from the end; `most` evenly spaced ones of the table without any."""
    known = xr.Dataset(coords={"layer": np.unique(table["layer"].to_numpy())})
    return chosen_layers(known, layers, most=most)


def short_specs(specs: Sequence[str]) -> dict[str, str]:
    """Specs with the names of fields left out before words, which speak for themselves; numbers keep them.

    `adaptive:detector=relative-norm,rule=otsu` -> `adaptive:relative-norm,otsu`; `norm:threshold=100` stays. Where two
    would become the same, both stay whole.
    """
    short = {}
    for spec in specs:
        name, fields = parse_spec(spec)
        pieces = [f"{key}={text}" if re.match(r"[-+.\d]", text) else text for key, text in fields.items()]
        short[spec] = name + (":" + ",".join(pieces) if pieces else "")
    every = list(short.values())
    return {spec: name if every.count(name) == 1 else spec for spec, name in short.items()}


def spec_in_lines(spec: str, width: int) -> str:
    """A spec in lines of at most `width` characters where it can be broken after a sign that joins its words."""
    lines = [""]
    for piece in re.findall(r"[^:,=-]+[:,=-]*|[:,=-]+", spec):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)
