"""The mean of an image's unmarked patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.checks import check_inputs, computing_dtype


@dataclass(frozen=True, kw_only=True)
class ImageMean(Purifier):
    """Replaces marked patches by the mean of the unmarked patches of their image.

    An image whose patches are all marked is kept. Source: ours, as a comparison.
    """

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        check_inputs(patches, mask, layout)
        marked = mask[..., None]
        count = (~marked).sum(dim=1, keepdim=True)
        total = patches.masked_fill(marked, 0).sum(dim=1, keepdim=True, dtype=computing_dtype(patches.dtype))
        mean = (total / count.clamp_min(1)).to(patches.dtype)
        return torch.where(marked & (count > 0), mean, patches)
