"""Clipping of the few channels that carry the outliers; all other channels of a marked patch stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.check_numbers import check_positive
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.checks import check_inputs, computing_dtype


@dataclass(frozen=True, kw_only=True)
class ClipChannels(Purifier):
    """Clips marked patches in their dominant channels to the largest |value| that unmarked patches reach there.

    A channel is dominant in an image where the largest |value| of its marked patches is above `ratio` × the median
    |value| of its unmarked ones (of an even number the lower middle one). The sign stays, and so does each value
    within the bound. An image whose patches are all marked is kept: nothing says what is ordinary there. A nan in a
    marked patch stays in its place and has no part in the choice.
    Source: RF-CLIP, arXiv:2511.16170, purifies outliers in dominant channels only; rule and bound are ours.
    """

    reads_marked: ClassVar[bool] = True

    ratio: float = 5.0  # our choice: normal values of 200 patches reach about 4 × their median

    def __post_init__(self) -> None:
        check_positive("ratio", self.ratio, hint="such as 5")

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        check_inputs(patches, mask, layout)
        marked = mask[..., None]
        sizes = patches.abs().to(computing_dtype(patches.dtype))
        peak = sizes.masked_fill(~marked | sizes.isnan(), 0).amax(dim=1, keepdim=True)
        # nan where all are marked; no channel is above it.
        ordinary = sizes.masked_fill(marked, torch.nan).nanmedian(dim=1, keepdim=True).values
        bound = sizes.masked_fill(marked, 0).amax(dim=1, keepdim=True).to(patches.dtype)
        clipped = torch.maximum(torch.minimum(patches, bound), -bound)
        return torch.where(marked & (peak > self.ratio * ordinary), clipped, patches)
