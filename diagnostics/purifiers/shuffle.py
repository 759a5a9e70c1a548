"""Random unmarked patches in place of marked ones: the control that removes outliers but knows no place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.checks import check_inputs


@dataclass(frozen=True, kw_only=True)
class Shuffle(Purifier):
    """Replaces each marked patch by a random unmarked patch of the same image, drawn with replacement.

    The draw depends on `seed`, the grid and the image's own mask alone: an image comes out the same in any batch
    and on any device, and images with equal masks take from the same places. An image whose patches are all marked
    is kept. Source: ours, as a control.
    """

    by_place: ClassVar[bool] = True

    seed: int = 0

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        check_inputs(patches, mask, layout)
        # Drawn on the CPU: generators of other devices give other numbers for the same seed.
        draws = torch.rand(layout.count, generator=torch.Generator().manual_seed(self.seed)).to(patches.device)
        unmarked_first = mask.to(torch.uint8).argsort(dim=1, stable=True)
        count = (~mask).sum(dim=1, keepdim=True)
        chosen = (draws * count).long().clamp(max=count - 1).clamp(min=0)  # a draw near 1 may round up to `count`
        sources = unmarked_first.gather(1, chosen)
        image, number = (mask & (count > 0)).nonzero(as_tuple=True)
        result = patches.clone()
        result[image, number] = patches[image, sources[image, number]]
        return result
