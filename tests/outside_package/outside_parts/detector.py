"""A detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.detectors import ThresholdDetector
from diagnostics.layout import Layout
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class PeakShare(ThresholdDetector):
    """Marks patches with one channel for nearly all. Score: max |x| / ‖x‖, above 0 and at most 1."""

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    published: ClassVar[str] = "0.8 is an outside choice."
    threshold: float = 0.8

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        patches = layout.patches(recording["block_out"]).float()
        return patches.abs().amax(dim=-1) / patches.norm(dim=-1).clamp_min(1e-12)
