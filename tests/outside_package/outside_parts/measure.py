"""A measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.measures import LayerView, Measure, Variable


@dataclass(frozen=True, kw_only=True)
class NormSpread(Measure):
    """How unlike the norms of an image's patches are: standard deviation over mean. No unit."""

    needs: ClassVar[tuple[str, ...]] = ("block_out",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (Variable("norm_spread", ("image", "layer"), "1", "spread of the patch norms", "outside"),)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        norms = view.patches("block_out").norm(dim=-1)
        return {"norm_spread": norms.std(dim=1) / norms.mean(dim=1)}
