"""A number that a paper's claim is about: what was measured, what the paper says, and what is seen here."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """`measured` in words with its unit, `paper` what the paper says of it, `value` the number.

    `holds`: whether the claim is met by `value`; None where the paper gives no rule that a number could meet. Numbers
    of the papers are those of their own models and data: they stand beside ours to be compared by eye, not as a rule.
    """

    measured: str
    value: float | str
    paper: str = ""
    holds: bool | None = None


def verdict(met: bool, *numbers: float) -> bool | None:
    """`met`, or None where one of the numbers it was made from could not be measured."""
    return bool(met) if all(math.isfinite(number) for number in numbers) else None
