"""Tables in the terminal, all of one look."""

from __future__ import annotations

import pandas as pd
from rich.table import Table


def as_rich(frame: pd.DataFrame, title: str = "", *, digits: int = 3) -> Table:
    """A table of numbers: the index first, a number that is not there as a dash."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(str(frame.index.name or ""), style="bold", no_wrap=True)
    for column in frame.columns:
        table.add_column(str(column), justify="right")
    for name, row in zip(frame.index, frame.to_numpy(), strict=True):
        table.add_row(str(name), *("-" if pd.isna(value) else f"{value:.{digits}f}" for value in row))
    return table
