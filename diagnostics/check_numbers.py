"""Checks of settings that are numbers: NaN and infinity pass a plain comparison too easily, and make NaN of results."""

from __future__ import annotations

import math

# Our choice: products with activations of fp32, which reach 1e8 in damaged models at most, stay finite.
LARGEST = 1e30
# Our choice: its square and what is divided by it stay finite in fp32 as well.
SMALLEST = 1e-15
# Our choice: what is done over and over settles long before; more is a slip of the finger that never ends.
MOST_ITERATIONS = 1000


def check_positive(name: str, value: float, upper: float | None = None, *, hint: str = "") -> None:
    """Refuses a setting that is no finite number above 0, or above `upper`. `hint` follows, such as «such as 3»."""
    most = LARGEST if upper is None else upper
    if not SMALLEST <= value <= most:
        extent = f"{SMALLEST:g} to {most:g}"
        raise ValueError(f"`{name}` should be above 0 ({extent}){hint and f', {hint}'}; got {value}.")


def check_not_negative(name: str, value: float, upper: float | None = None, *, hint: str = "") -> None:
    """Refuses a setting that is no finite number of at least 0, or above `upper`."""
    if value != 0:
        most = LARGEST if upper is None else upper
        if not SMALLEST <= value <= most:
            extent = f"0, or {SMALLEST:g} to {most:g}"
            raise ValueError(f"`{name}` should be at least 0 ({extent}){hint and f', {hint}'}; got {value}.")


def check_finite_number(name: str, value: float, *, hint: str = "") -> None:
    """Refuses a setting that is NaN, infinite, or so large that products with it would be."""
    if not (math.isfinite(value) and abs(value) <= LARGEST):
        raise ValueError(f"`{name}` should be a finite number, at most {LARGEST:g}{hint and f', {hint}'}; got {value}.")


def check_iterations(name: str, value: int, *, hint: str = "") -> None:
    """Refuses a number of rounds below 0, or so large that the run would never end."""
    if not 0 <= value <= MOST_ITERATIONS:
        raise ValueError(
            f"`{name}` should be at least 0 and at most {MOST_ITERATIONS}{hint and f', {hint}'}; got {value}."
        )
