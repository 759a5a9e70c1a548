"""Outliers detected and purified in the output of chosen blocks: later blocks get the purified tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from diagnostics.detectors.base import Detector
from diagnostics.edits.base import Edit
from diagnostics.purifiers.base import Purifier
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class PurifyAt(Edit):
    """Detects outliers in a block, purifies its output, and passes the purified tokens on.

    With `som` and `sfp-sum` at every layer this is SFP's outlier mitigator as printed. Prefix tokens are not changed.
    `masks` holds afterwards what was marked, by layer. Source: SFP (Jin et al., ICCV 2025), Eq 4-5 and Sec 3.
    """

    detector: Detector
    purifier: Purifier

    def wants(self, name: str, layer: int) -> bool:
        return self.active(layer) and (name == "block_out" or name in self.detector.needs)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        values = self.memory.setdefault("values", {})
        values[name, layer] = value
        if name != "block_out":
            return value
        layout = self.layout
        reason = self.purifier.unsupported_reason(layout)
        if reason:
            raise ValueError(f"{self.purifier} can't run here: {reason}.")
        lacking = [tap for tap in self.detector.needs if (tap, layer) not in values and tap != "attention_bias"]
        if lacking:
            raise ValueError(
                f"{self.detector} can't run here: `{lacking[0]}` does not pass here, since differential attention has "
                "no queries and keys of one softmax. Take a detector that reads `block_out` alone."
            )
        mask = self.detector(Recording(self.memory["depth"], values), layout).mask
        values.clear()
        self.memory.setdefault("masks", {})[layer] = mask
        return self.purifier.purify_tokens(value, mask, layout)

    @property
    def masks(self) -> dict[int, Tensor]:
        """What was marked in the last pass: layer -> (B, N) bool."""
        return dict(self.memory.get("masks", {}))
