"""The mean of the unmarked 3x3 neighbors, weighted by distance."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.neighborhood import Isolated, average, check_isolated, fill_from_neighbors


@dataclass(frozen=True, kw_only=True)
class NeighborWeighted(Purifier):
    """Replaces a marked patch by the mean of its unmarked 3x3 neighbors, each weighted by 1 / its distance.

    Distance is straight, in patches: 1 beside, √2 on a diagonal. The sum is divided by the weights that count.
    `isolated` says what happens where there is none: see `fill_from_neighbors`.
    Source: SC-CLIP, Table 6, names it without a formula; 1 / distance is our reading.
    """

    isolated: Isolated = "keep"  # SC-CLIP's release

    def __post_init__(self) -> None:
        check_isolated(self.isolated)

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        return fill_from_neighbors(patches, mask, layout, _weighted, isolated=self.isolated)


def _weighted(neighbors: Tensor, valid: Tensor, places: Tensor) -> Tensor:
    return average(neighbors, valid / places.to(neighbors.dtype).norm(dim=2))
