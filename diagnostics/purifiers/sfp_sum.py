"""SFP's printed formula: an eighth of the sum of the unmarked neighbors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.neighborhood import fill_from_neighbors

NEIGHBORS = 8  # SFP, Eq 5


@dataclass(frozen=True, kw_only=True)
class SfpSum(Purifier):
    """Replaces a marked patch by 1/8 of the sum of its unmarked 3x3 neighbors, as SFP prints it.

    The divisor stays 8 at borders and in clusters, where fewer are summed: the patch shrinks, to 0 with no neighbor.
    Source: SFP (Jin et al., ICCV 2025), Eq 5. Its text speaks of the average and its release divides by the true
    number: that is `neighbor-mean` with `isolated=zero`.
    """

    keeps_fully_marked: ClassVar[bool] = False

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        return fill_from_neighbors(patches, mask, layout, _eighth, isolated="zero")


def _eighth(neighbors: Tensor, valid: Tensor, places: Tensor) -> Tensor:
    return neighbors.sum(dim=1) / NEIGHBORS
