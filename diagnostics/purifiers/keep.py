"""Nothing as a part: the purifier that changes no patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.checks import check_inputs


@dataclass(frozen=True, kw_only=True)
class Keep(Purifier):
    """Keeps every patch, marked or not: the baseline. A copy, so that it may be changed as the others' results."""

    reads_marked: ClassVar[bool] = True

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        check_inputs(patches, mask, layout)
        return patches.clone()
