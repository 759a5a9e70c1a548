"""SFP's printed formula: an eighth of the sum of the unmarked neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.neighborhood import fill_from_neighbours

NEIGHBOURS = 8  # SFP, Eq 5


@dataclass(frozen=True, kw_only=True)
class SfpSum(Purifier):
    """Replaces a marked patch by 1/8 of the sum of its unmarked 3x3 neighbours, as SFP prints it.

    The divisor stays 8 at borders and in clusters, where fewer are summed: the patch shrinks, to 0 with no neighbour.
    Source: SFP (Jin et al., ICCV 2025), Eq 5. Its text speaks of the average and its release divides by the true
    number: that is `neighbour-mean` with `isolated=zero`.
    """

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        return fill_from_neighbours(patches, mask, layout, _eighth, isolated="zero")


def _eighth(neighbours: Tensor, valid: Tensor, places: Tensor) -> Tensor:
    return neighbours.sum(dim=1) / NEIGHBOURS
