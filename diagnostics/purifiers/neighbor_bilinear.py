"""The bilinear mean of the unmarked 3x3 neighbors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.neighborhood import Isolated, average, check_isolated, fill_from_neighbors


@dataclass(frozen=True, kw_only=True)
class NeighborBilinear(Purifier):
    """Replaces a marked patch by the mean of its unmarked 3x3 neighbors under the bilinear kernel.

    Neighbors beside, above and below weigh 2, diagonal ones 1; the sum is divided by the weights that count. A window
    that grew to radius r has the bilinear kernel of its size: weight (r + 1 - rows away)·(r + 1 - columns away).
    `isolated` says what happens where there is none: see `fill_from_neighbors`.
    Source: SC-CLIP, Table 6, names it without a formula; the kernel [1 2 1; 2 0 2; 1 2 1] is our reading.
    """

    isolated: Isolated = "keep"  # SC-CLIP's release

    def __post_init__(self) -> None:
        check_isolated(self.isolated)

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        return fill_from_neighbors(patches, mask, layout, _bilinear, isolated=self.isolated)


def _bilinear(neighbors: Tensor, valid: Tensor, places: Tensor) -> Tensor:
    away = places.abs()
    radius = away.amax(dim=2, keepdim=True)  # of a ring, the same for all
    return average(neighbors, valid * (radius + 1 - away).prod(dim=2))
