"""Outliers by norm: a fixed line, as the first papers on registers draw it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.detectors.base import ThresholdDetector
from diagnostics.layout import Layout
from diagnostics.measures.norms import token_norms
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class AbsoluteNorm(ThresholdDetector):
    """Marks patches whose norm exceeds a fixed line.

    Score: L2 norm of the patch that leaves the block, at least 0, in the model's own unit; so the line is one model's
    and one layer's. Source: Darcet et al. 2024, arXiv:2309.16588, Sec 2.

    Extreme values: right up to the largest number of fp32. In bf16 no mark differed where it was measured; the scores'
    rank correlation is 0.999 or more (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    published: ClassVar[str] = (
        "30 for CLIP ViT-B/16 (OpenAI and LAION-2B) at layer -1 and 150 for DINOv2-L at layer -2: configs of "
        "nickjiang2378/test-time-registers 860df43; 150 for DINOv2-g at layer -1, 2.37 % of its tokens: "
        "Darcet et al. 2024, Sec 2. Other models need a line of their own."
    )

    threshold: float = 30.0  # test-time-registers 860df43, CLIP ViT-B/16, last layer

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        return token_norms(layout.patches(recording["block_out"]).float())
