"""Zeros in place of marked patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.checks import check_inputs


@dataclass(frozen=True, kw_only=True)
class Zero(Purifier):
    """Replaces marked patches by zeros. Source: ours, as a comparison."""

    keeps_fully_marked: ClassVar[bool] = False

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        check_inputs(patches, mask, layout)
        return patches.masked_fill(mask[..., None], 0)
