"""The class token in place of marked patches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.checks import check_inputs


@dataclass(frozen=True, kw_only=True)
class ClassToken(Purifier):
    """Replaces marked patches by the class token of their image.

    Raises ValueError on a model without a class token, or where none is given. Source: ours, as a comparison.
    """

    keeps_fully_marked: ClassVar[bool] = False

    def unsupported_reason(self, layout: Layout) -> str | None:
        return None if layout.has_class_token else "there is no class token"

    def __call__(self, patches: Tensor, mask: Tensor, layout: Layout, *, class_token: Tensor | None = None) -> Tensor:
        reason = self.unsupported_reason(layout)
        if reason:
            raise ValueError(f"{self} can't run here: {reason}. Take a purifier that needs none, as `image-mean`.")
        if class_token is None:
            raise ValueError(f"{self} needs `class_token`: give class_token=layout.class_token(tokens).")
        check_inputs(patches, mask, layout)
        if class_token.shape != (patches.shape[0], patches.shape[2]):
            raise ValueError(
                f"`class_token` should be (B, D) = ({patches.shape[0]}, {patches.shape[2]}); "
                f"got {tuple(class_token.shape)}. Take it from the same tokens: layout.class_token(tokens)."
            )
        return torch.where(mask[..., None], class_token[:, None].to(patches), patches)
