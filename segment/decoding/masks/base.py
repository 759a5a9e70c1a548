"""What a mask source is: from the encoding of windows to regions of pixels that belong together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, final

import torch
from torch import Tensor

from segment.decoding.masks.prototypes import mean_rows, prototype_regions
from segment.method import Encoding

# The number of patches and pixels that belong to no region.
NOWHERE = -1


class MaskSource(ABC):
    """Regions of pixels. A part derives from it as a frozen dataclass; settings are fields."""

    @abstractmethod
    def __call__(self, encoding: Encoding, size: tuple[int, int]) -> Tensor:
        """The region of each pixel, 0…K-1 within its image, or -1 for none: (B, h, w) int64.

        `size` is the window's (height, width) in pixels, with its padding.
        """


class Clusters(NamedTuple):
    """Patches that belong together.

    `labels` (B, N) int64, 0…K-1 within each image and -1 for none; `rows` (B, N, N), the affinity whose rows they
    share.
    """

    labels: Tensor
    rows: Tensor


class PatchMasks(MaskSource):
    """Masks by clusters of patches: each pixel goes to the cluster whose prototype is largest there.

    A cluster's prototype is the mean of its patches' rows of the affinity. `enlarge` and `median` say how prototypes
    become as large as the window, see segment.decoding.masks.prototypes. A part derives from this interface.
    """

    enlarge: int
    median: int

    @abstractmethod
    def clusters(self, encoding: Encoding) -> Clusters:
        """Clusters of patches, on the CPU."""

    @final
    def __call__(self, encoding: Encoding, size: tuple[int, int]) -> Tensor:
        labels, rows = self.clusters(encoding)
        regions = [
            prototype_regions(
                encoding.layout.to_map(mean_rows(affinity, clusters)), size, enlarge=self.enlarge, median=self.median
            )
            for affinity, clusters in zip(rows, labels, strict=True)
        ]
        return torch.stack(regions).to(encoding.patches.device)


def extra(encoding: Encoding, name: str, *, of: str) -> Tensor:
    """What an encoder has to leave in its extras for a mask source; ValueError where it did not."""
    if name not in encoding.extras:
        known = ", ".join(encoding.extras) or "nothing"
        raise ValueError(
            f"{of} needs `{name}` in the encoding's extras; there is {known}. The encoder of `cliptrase` leaves "
            "`affinity`, `kept` and `image`, that of `lavg` leaves `masks`."
        )
    return encoding.extras[name]


def check_resizing(enlarge: int, median: int) -> None:
    """Refuses settings that prototypes can't be resized with."""
    if enlarge < 1:
        raise ValueError(f"`enlarge` should be a factor of at least 1, and 1 for none; got {enlarge}.")
    if median < 1 or median % 2 == 0:
        raise ValueError(f"`median` should be an odd width in places, and 1 for none; got {median}.")
