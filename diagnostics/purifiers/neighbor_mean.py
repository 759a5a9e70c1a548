"""The mean of the unmarked 3x3 neighbors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.neighborhood import Isolated, average, check_isolated, fill_from_neighbors


@dataclass(frozen=True, kw_only=True)
class NeighborMean(Purifier):
    """Replaces a marked patch by the mean of its unmarked 3x3 neighbors, divided by their true number.

    `isolated` says what happens where there is none: see `fill_from_neighbors`.
    Source: SC-CLIP, Eq 3, and its release (github.com/SuleBai/SC-CLIP, 0417ba9).
    """

    isolated: Isolated = "keep"  # SC-CLIP's release

    def __post_init__(self) -> None:
        check_isolated(self.isolated)

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        return fill_from_neighbors(patches, mask, layout, _mean, isolated=self.isolated)


def _mean(neighbors: Tensor, valid: Tensor, places: Tensor) -> Tensor:
    return average(neighbors, valid)
