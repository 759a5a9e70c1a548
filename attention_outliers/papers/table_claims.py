"""What a table is said to show, held against our numbers: which row, or column, stands above which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TableClaim:
    """`says` in words; the row, or column, `above` has larger numbers than each of `below`."""

    says: str
    above: str
    below: tuple[str, ...]
    by: Literal["row", "column"] = "row"

    def verdict(self, numbers: Mapping[tuple[str, str], float], places: Sequence[tuple[str, str]]) -> str:
        """`as claimed`, `not as claimed` or `cannot tell`, with the count behind it; numbers by (row, column).

        As claimed: above in every comparison that can be made, of `places`; not: in none. Some of each do not decide.
        """
        axis = 0 if self.by == "row" else 1
        pairs = []
        for place in places:
            if place[axis] != self.above:
                continue
            for other in self.below:
                against = (other, place[1]) if self.by == "row" else (place[0], other)
                if place in numbers and against in numbers:
                    pairs.append(numbers[place] > numbers[against])
        if not pairs:
            return "cannot tell (no numbers)"
        above = sum(pairs)
        word = "as claimed" if above == len(pairs) else "not as claimed" if not above else "cannot tell"
        return f"{word} (above in {above} of {len(pairs)})"
