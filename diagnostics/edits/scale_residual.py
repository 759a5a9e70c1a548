"""X_sum = X_res + α·X_attn: how much attention's output weighs against the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diagnostics.check_numbers import check_finite_number
from diagnostics.edits.base import Edit


@dataclass(frozen=True, kw_only=True)
class ScaleResidual(Edit):
    """Scales attention's output before it joins the residual stream, at the last layer by default.

    α = 1 changes nothing; the paper sweeps 0.1 to 100. Source: ClearCLIP, arXiv:2407.12442, Fig 6.
    """

    alpha: float = 1.0
    layers: tuple[int, ...] | None = (-1,)

    def __post_init__(self) -> None:
        check_finite_number("alpha", self.alpha)

    def wants(self, name: str, layer: int) -> bool:
        return name == "attn_out" and self.active(layer)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        return value * self.alpha
