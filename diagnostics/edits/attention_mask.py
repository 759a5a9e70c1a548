"""Outliers hidden from attention: nobody looks at them any more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from diagnostics.detectors.base import Detector
from diagnostics.edits.base import Edit
from diagnostics.purifiers.attention import mask_columns
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class AttentionMask(Edit):
    """Takes the attention to outliers away, at chosen layers.

    The outliers are those of `detector` in what the block before let out, or the `patches` named (row-major from 0).
    `how`: `renormalize` shares their part among the other tokens, as a mask of -inf before the softmax does; `zero`
    leaves it out, as SFP's Eq 8 does. Source: SFP (ICCV 2025), Eq 8; RF-CLIP's control with -inf.
    """

    detector: Detector | None = None
    patches: tuple[int, ...] = ()
    how: Literal["renormalize", "zero"] = "renormalize"

    def __post_init__(self) -> None:
        if (self.detector is None) == (not self.patches):
            raise ValueError("an attention mask should have either a `detector` or `patches`; got both or none.")
        if self.detector and set(self.detector.needs) - {"block_out"}:
            raise ValueError(
                f"`detector` should judge by `block_out` alone, since the block before has passed; {self.detector} "
                f"needs {', '.join(self.detector.needs)}. Take one such as `relative-norm` or `lof`."
            )

    def wants(self, name: str, layer: int) -> bool:
        if name == "attention":
            return self.active(layer)
        return name == "block_out" and self.detector is not None and self.active(layer + 1)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        if name == "block_out":
            self.memory["before"] = Recording(self.memory["depth"], {(name, layer): value})
            return value
        return mask_columns(value, self._mask(value), self.layout, how=self.how)

    def _mask(self, weights: Tensor) -> Tensor:
        if self.detector is not None:
            return self.detector(self.memory["before"], self.layout).mask
        outside = [patch for patch in self.patches if not 0 <= patch < self.layout.count]
        if outside:
            raise ValueError(f"`patches` should be 0…{self.layout.count - 1}; got {outside}.")
        mask = torch.zeros(len(weights), self.layout.count, dtype=torch.bool, device=weights.device)
        mask[:, list(self.patches)] = True
        return mask
