"""Random integers that are the same on every machine and with every version of NumPy."""

from __future__ import annotations

import numpy as np


class Dice:
    """A stream of random integers that depends on its key alone.

    NumPy promises the raw output of a bit generator for ever, but not what `Generator` makes of it; so numbers are
    taken from the raw 64-bit words by integer arithmetic. The bias of the remainder is below 2⁻⁴⁰ for the small ranges
    here.
    """

    def __init__(self, *key: int) -> None:
        if not 1 <= len(key) <= 2 or any(not 0 <= part < 2**64 for part in key):
            raise ValueError(f"a key should be one or two integers in 0…2⁶⁴-1; got {key}.")
        self._bits = np.random.Philox(key=np.array([*key, 0][:2], dtype=np.uint64))
        self._words: list[int] = []

    def below(self, limit: int) -> int:
        """An integer in 0…limit-1."""
        if not self._words:
            self._words = self._bits.random_raw(64).tolist()
        return int(self._words.pop()) % limit

    def between(self, low: int, high: int) -> int:
        """An integer in low…high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred cases."""
        return self.below(100) < percent

    def pick(self, size: int, count: int) -> list[int]:
        """`count` different integers below `size`, in random order."""
        left = list(range(size))
        return [left.pop(self.below(len(left))) for _ in range(count)]

    def bytes(self, *shape: int) -> np.ndarray:
        """Integers in 0…255 as a uint8 array."""
        count = int(np.prod(shape))
        words = self._bits.random_raw(-(-count // 8))
        return words.astype("<u8").view(np.uint8)[:count].reshape(shape)
