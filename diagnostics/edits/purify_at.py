"""Outliers detected and purified after chosen blocks, on the way: later blocks see the purified tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diagnostics.detectors.base import Detector
from diagnostics.edits.base import Edit
from diagnostics.purifiers.base import Purifier
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class PurifyAt(Edit):
    """Detects outliers by what a block showed, purifies its output, and lets the purified tokens go on.

    With `som` and `sfp-sum` at every layer this is SFP's outlier mitigator as printed. Prefix tokens are not changed.
    `masks` tells afterwards what was marked, by layer. Source: SFP (Jin et al., ICCV 2025), Eq 4-5 and Sec 3.
    """

    detector: Detector
    purifier: Purifier

    def wants(self, name: str, layer: int) -> bool:
        return self.active(layer) and (name == "block_out" or name in self.detector.needs)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        seen = self.memory.setdefault("seen", {})
        seen[name, layer] = value
        if name != "block_out":
            return value
        layout = self.layout
        reason = self.purifier.unsupported_reason(layout)
        if reason:
            raise ValueError(f"{self.purifier} can't run here: {reason}.")
        mask = self.detector(Recording(self.memory["depth"], seen).at(layer), layout).mask
        seen.clear()
        self.memory.setdefault("masks", {})[layer] = mask
        class_token = None if layout.class_index is None else layout.class_token(value)
        purified = self.purifier(layout.patches(value), mask, layout, class_token=class_token)
        return torch.cat([value[:, : layout.prefix], purified], dim=1)

    @property
    def masks(self) -> dict[int, Tensor]:
        """What was marked in the last pass: layer -> (B, N) bool."""
        return dict(self.memory.get("masks", {}))
