"""A purifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers import Purifier


@dataclass(frozen=True, kw_only=True)
class Shorten(Purifier):
    """Marked patches lose `share` of their length."""

    share: float = 0.5

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        return torch.where(mask[..., None], patches * (1 - self.share), patches)
