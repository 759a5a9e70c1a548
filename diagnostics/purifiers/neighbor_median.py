"""The median of the unmarked 3x3 neighbors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.neighborhood import Isolated, check_isolated, fill_from_neighbors


@dataclass(frozen=True, kw_only=True)
class NeighborMedian(Purifier):
    """Replaces a marked patch by the median of its unmarked 3x3 neighbors, each channel on its own.

    Of an even number of neighbors it is the mean of the two middle ones. A neighbor with nan makes that channel nan.
    `isolated` says what happens where there is none: see `fill_from_neighbors`.
    Source: SC-CLIP, Table 6, names it without a formula; per channel, and the mean of the middle two, are our reading.
    """

    isolated: Isolated = "keep"  # SC-CLIP's release

    def __post_init__(self) -> None:
        check_isolated(self.isolated)

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        return fill_from_neighbors(patches, mask, layout, _median, isolated=self.isolated)


def _median(neighbors: Tensor, valid: Tensor, places: Tensor) -> Tensor:
    # Those that don't count go behind all others, so the middle is found by their number; torch.nanmedian would take
    # the lower of two middle ones and would hide nan.
    ordered = neighbors.masked_fill(~valid[..., None], torch.inf).sort(dim=1).values
    count = valid.sum(dim=1)[:, None, None].expand(-1, 1, neighbors.shape[2])
    lower, upper = ordered.gather(1, (count - 1) // 2), ordered.gather(1, count // 2)
    middle = (lower / 2 + upper / 2).squeeze(1)
    return middle.masked_fill(neighbors.isnan().any(dim=1), torch.nan)
