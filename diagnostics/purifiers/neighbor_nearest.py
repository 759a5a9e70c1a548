"""The nearest unmarked 3x3 neighbor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.checks import check_choice
from diagnostics.purifiers.neighborhood import Isolated, average, check_isolated, fill_from_neighbors

Ties = Literal["first", "mean"]

FAR = torch.iinfo(torch.int64).max


@dataclass(frozen=True, kw_only=True)
class NeighborNearest(Purifier):
    """Replaces a marked patch by the nearest of its unmarked 3x3 neighbors, in straight-line distance.

    Of equally near ones, `ties` = `first` copies the first row by row (up, left, right, down; then up-left, up-right,
    down-left, down-right), so the result is a token of the image; `mean` takes their mean, which follows a flip.
    `isolated` says what happens where there is none: see `fill_from_neighbors`.
    Source: SC-CLIP, Table 6, names it without a formula; distance and ties are our reading.
    """

    by_place: ClassVar[bool] = True

    isolated: Isolated = "keep"  # SC-CLIP's release
    ties: Ties = "first"  # our choice

    def __post_init__(self) -> None:
        check_isolated(self.isolated)
        check_choice("ties", self.ties, Ties)

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        interpolate = _first_nearest if self.ties == "first" else _mean_of_nearest
        return fill_from_neighbors(patches, mask, layout, interpolate, isolated=self.isolated)


def _first_nearest(neighbors: Tensor, valid: Tensor, places: Tensor) -> Tensor:
    # Neighbors come row by row. Their number breaks ties of the distance, so argmin is the same on every device.
    number = valid.shape[1]
    ranks = places.square().sum(dim=2) * number + torch.arange(number, device=valid.device)
    nearest = ranks.masked_fill(~valid, FAR).argmin(dim=1)
    return neighbors.gather(1, nearest[:, None, None].expand(-1, 1, neighbors.shape[2])).squeeze(1)


def _mean_of_nearest(neighbors: Tensor, valid: Tensor, places: Tensor) -> Tensor:
    distances = places.square().sum(dim=2)
    nearest = distances.masked_fill(~valid, FAR).amin(dim=1, keepdim=True)
    return average(neighbors, valid & (distances == nearest))
