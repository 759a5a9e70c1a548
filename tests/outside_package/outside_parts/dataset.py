"""A data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from segment.datasets import Dataset, Sample


@dataclass(frozen=True, kw_only=True)
class Halves(Dataset):
    """Black left of white: two classes of somebody else."""

    count: int = 4
    names: ClassVar[tuple[str, ...]] = ("black", "white")
    ignore: ClassVar[int | None] = None
    background: ClassVar[int | None] = None

    def __len__(self) -> int:
        return self.count

    def sample_name(self, index: int) -> str:
        return f"halves-{index}"

    def read(self, index: int) -> Sample:
        labels = np.zeros((48, 64), dtype=np.uint8)
        labels[:, 10 * (index + 1) :] = 1
        return Sample(np.repeat(labels[..., None] * 255, 3, axis=2), labels, self.sample_name(index))
