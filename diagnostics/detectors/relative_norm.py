"""Outliers by norm, relative to the image's median: one line for all models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.detectors.base import ThresholdDetector
from diagnostics.layout import Layout
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class RelativeNorm(ThresholdDetector):
    """Marks patches whose norm stands far above the image's median.

    Score: norm over the median norm of the same image's patches; no unit, 1 is ordinary. Where the median is 0, a
    zero patch scores 0 and any other the largest finite number, or near it.
    Source: Darcet et al. 2024, arXiv:2309.16588, who look at norms; the ratio is ours.

    Extreme values: finite; 0 where all patches are 0, 1 where all are equal. In bf16 no mark differed where it was
    measured; the scores' rank correlation is 0.999 or more (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    published: ClassVar[str] = (
        "3 is our choice, as is the ratio: the papers draw absolute lines. Meant for the deeper half of any model."
    )

    threshold: float = 3.0  # our choice: no paper fixes it

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        norms = token_norms(layout.patches(recording["block_out"]).float())
        number = torch.finfo(norms.dtype)
        return (norms / median_norm(norms)[:, None].clamp_min(number.tiny)).clamp_max(number.max)
