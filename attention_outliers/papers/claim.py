"""A number that a paper's claim is about: what was measured, what the paper says, and what is seen here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

# Where the paper gives no rule that a number could meet.
NO_RULE: Literal[""] = ""
# True or False, or None where numbers do not decide.
Verdict = bool | None | Literal[""]
# Standard errors that a difference must have to be one: about 95 per cent. Our choice.
ERRORS = 2.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """`measured` in words with its unit, `paper` what the paper says of it, `value` the number.

    `holds`: whether the claim is met by `value`; None where the numbers can't tell, `NO_RULE` where the paper gives no
    rule that one could meet. Numbers of the papers are those of their own models and data: they stand beside ours to be
    compared by eye, not as a rule.
    """

    measured: str
    value: float | str
    paper: str = ""
    holds: Verdict = NO_RULE


class ImageMean(float):
    """A mean over images that knows each image's number: `values` (n), nan where one could not be measured.

    `pooled` stands in the place of the mean, where a number is made from all images at once.
    """

    values: np.ndarray

    def __new__(cls, values: Sequence[float] | np.ndarray, *, pooled: float | None = None) -> Self:
        numbers = np.asarray(values, np.float64)
        known = numbers[np.isfinite(numbers)]
        mean = known.mean() if known.size else float("nan")
        made = super().__new__(cls, mean if pooled is None else pooled)
        made.values = numbers
        return made


def verdict(met: bool, *numbers: float, line: float | None = None) -> bool | None:
    """`met`, or None where the numbers it was made from do not decide.

    They do not where one could not be measured, and where images differ by more than what is claimed: two means over
    the same images, or a mean and the `line` it is held against, that are less than two standard errors apart. A single
    image has no error, and counts as it is.
    """
    if not all(math.isfinite(number) for number in numbers):
        return None
    means = [number.values for number in numbers if isinstance(number, ImageMean)]
    apart = None
    if line is not None and len(means) == 1:
        apart = means[0] - line
    elif line is None and len(means) == len(numbers) == 2 and len(means[0]) == len(means[1]):
        apart = means[0] - means[1]
    if apart is not None:
        apart = apart[np.isfinite(apart)]
        if len(apart) > 1 and abs(apart.mean()) < ERRORS * apart.std(ddof=1) / math.sqrt(len(apart)):
            return None
    return bool(met)
