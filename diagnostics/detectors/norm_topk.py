"""Outliers by norm, a fixed number of them in every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.detectors.base import Detector, largest
from diagnostics.layout import Layout
from diagnostics.measures.norms import token_norms
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class NormTopK(Detector):
    """Marks the `count` patches of largest norm, outliers or none: a quota.

    Score: L2 norm of the patch that leaves the block, at least 0, in the model's own unit. An image of fewer patches
    has all of them marked.
    Source: released code of SFP (Kimsure/SFP 2804f5b, option `L2`) and of SC-CLIP's first commit
    (SuleBai/SC-CLIP 74471da).

    Extreme values: right up to the largest number of fp32; of equal patches the first are taken. In bf16 up to 6 % of
    the marks differ, where the quota reaches into ordinary patches; the scores' rank correlation is 0.999 or more
    (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    published: ClassVar[str] = (
        "10 of 196 patches for CLIP ViT-B/16 at layer -2: Kimsure/SFP 2804f5b, option L2; SuleBai/SC-CLIP 74471da. "
        "The number stays 10 for other models and sizes."
    )
    quota: ClassVar[bool] = True

    count: int = 10  # Kimsure/SFP 2804f5b

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"`count` should be at least 1, the number of patches to mark; got {self.count}.")

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        return token_norms(layout.patches(recording["block_out"]).float())

    def mark(self, scores: Tensor) -> Tensor:
        return largest(scores, self.count)
