"""Heads taken out of attention, to see what they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from diagnostics.edits.base import Edit


@dataclass(frozen=True, kw_only=True)
class AblateHeads(Edit):
    """Sets what heads hand out to 0, or to its mean over the image's tokens, before heads are merged.

    `heads` from 0, at each of `layers`. Source: Michel et al. 2019, arXiv:1905.10650, Sec 3.1, for zero; the mean takes
    away what differs between tokens and leaves what is the same.
    """

    heads: tuple[int, ...] = ()
    to: Literal["zero", "mean"] = "zero"

    def __post_init__(self) -> None:
        if self.to not in ("zero", "mean"):
            raise ValueError(f"`to` should be `zero` or `mean`; got `{self.to}`.")

    def wants(self, name: str, layer: int) -> bool:
        return name == "head_out" and self.active(layer)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        outside = [head for head in self.heads if not 0 <= head < value.shape[1]]
        if outside:
            raise ValueError(f"`heads` should be 0…{value.shape[1] - 1} at layer {layer}; got {outside}.")
        changed, heads = value.clone(), list(self.heads)
        changed[:, heads] = value[:, heads].mean(dim=2, keepdim=True) if self.to == "mean" else 0.0
        return changed
