"""What a labeled data set gives: names, what is not scored, and samples by number."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple, final

import numpy as np

from diagnostics.images.content import UNREADABLE, array_content


class Sample(NamedTuple):
    """One labeled image. image: (h, w, 3) uint8, RGB; labels: (h, w) integers; name: unique within the data set."""

    image: np.ndarray
    labels: np.ndarray
    name: str


class Dataset(ABC):
    """Labeled images by number.

    `names` are the classes in the order of their labels 0…C-1. `ignore` is the label of pixels that are not scored,
    or None where all are. `background` is the label of the class that means «none of the others», or None.
    """

    names: tuple[str, ...]
    ignore: int | None
    background: int | None

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def sample_name(self, index: int) -> str:
        """The name that the sample at 0 <= index < len will have, without opening a file."""

    @abstractmethod
    def read(self, index: int) -> Sample:
        """The sample at 0 <= index < len."""

    def content(self, index: int) -> bytes:
        """What tells the sample at 0 <= index < len from another of its name: two with equal bytes are the same.

        Here a hash of the image and the labels as they are read. One that knows a shorter way, such as a hash of its
        files, overrides it; a sample that can't be read has some bytes as well.
        """
        try:
            sample = self.read(index)
        except (ValueError, OSError):
            return UNREADABLE
        return array_content(sample.image) + array_content(sample.labels)

    @final
    def __getitem__(self, index: int) -> Sample:
        """The sample at `index`; negative ones count from the end. IndexError beyond."""
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"{type(self).__name__} has samples 0…{size - 1}; got {index}.")
        return self.read(index % size)

    @final
    def __iter__(self) -> Iterator[Sample]:
        return (self.read(index) for index in range(len(self)))
