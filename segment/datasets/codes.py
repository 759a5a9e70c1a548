"""Label codes: what the values of a label map mean, as labels 0…C-1 or «not scored»."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diagnostics.images.label_maps import LabelError

# The label of pixels that are not scored. Source: 255 is mmsegmentation's, 65535 that of detectron2's sets with more
# classes than a byte has.
IGNORE, IGNORE_WIDE = 255, 65535
_UNKNOWN = -1


@dataclass(frozen=True)
class Codes:
    """The values that a label map may hold, each with its label; any other value is an error.

    `title` says in messages what the values are, `advice` what to do about others.
    """

    title: str
    labels: Mapping[int, int]
    advice: str = "Check that it is the label map of this data set, and neither converted nor resized"

    def decode(self, raw: np.ndarray, path: str | Path) -> np.ndarray:
        """Values as read (h, w) -> labels (h, w), uint8 or, where labels go past 255, uint16.

        LabelError that names `path` and the values that mean nothing.
        """
        table = np.full(max(self.labels) + 2, _UNKNOWN, dtype=np.int32)
        table[list(self.labels)] = list(self.labels.values())
        # The last place of the table is for all that lies beyond it.
        labels = table[np.clip(raw, 0, len(table) - 1)]
        if labels.min() == _UNKNOWN or raw.min() < 0:
            strange = np.unique(raw[(labels == _UNKNOWN) | (raw < 0)])
            shown = ", ".join(map(str, strange[:8])) + (f" and {len(strange) - 8} more" if len(strange) > 8 else "")
            raise LabelError(
                path,
                f"holds the values {shown}, but should hold {self.title}: {ranges(self.labels)}",
                self.advice,
            )
        return labels.astype(np.uint8 if max(self.labels.values()) <= IGNORE else np.uint16)


def as_they_are(title: str, count: int, *, ignored: Iterable[int] = (), ignore: int = IGNORE) -> Codes:
    """0…count-1 are the labels; `ignored` values are not scored."""
    return Codes(title, {value: value for value in range(count)} | dict.fromkeys(ignored, ignore))


def one_less(title: str, count: int, *, ignored: Iterable[int] = (0,), ignore: int = IGNORE) -> Codes:
    """1…count are the labels 0…count-1; `ignored` values, 0 among them, are not scored."""
    return Codes(title, {value: value - 1 for value in range(1, count + 1)} | dict.fromkeys(ignored, ignore))


def mapped(codes: Codes, change: Mapping[int, int]) -> Codes:
    """The same values with their labels changed; labels that `change` does not name stay."""
    return Codes(codes.title, {value: change.get(label, label) for value, label in codes.labels.items()})


def ranges(numbers: Iterable[int]) -> str:
    """{0, 1, 2, 5, 255} -> «0…2, 5, 255»."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}…{high}" for low, high in runs)
