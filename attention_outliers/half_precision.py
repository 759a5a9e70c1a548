"""What a network in bf16 changes of each part, as benchmarks/half_precision.py measured it."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

# Of a part's rows: the number that counts, and what it is a share of.
SHARES = {
    "detectors": (("marks that differ, %", "of marks"),),
    "measures": (("largest, %", ""), ("entries that differ, %", "of whole numbers")),
    "methods": (("labels that differ, %", "of pixels"),),
}


@cache
def measured() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Kind of part -> network -> rows, each with the part's name first."""
    return dict(json.loads(files("attention_outliers").joinpath("half_precision.json").read_text("utf-8")))


def changes(kind: str) -> dict[str, str]:
    """Name -> the most that bf16 changed on any network and layer, such as `≤ 5 % of marks`; `none` for nothing."""
    most: dict[str, dict[str, float]] = {}
    for rows in measured()[kind].values():
        for row in rows:
            name = str(next(iter(row.values())))
            for share, _ in SHARES[kind]:
                if row[share] not in ("", None):
                    known = most.setdefault(name, {})
                    known[share] = max(known.get(share, 0.0), float(row[share]))
    words: dict[str, str] = {}
    for name, known in most.items():
        moved = [f"≤ {known[share]:.2g} % {of}".rstrip() for share, of in SHARES[kind] if known.get(share)]
        words[name] = ", ".join(moved) or "none"
    return words
