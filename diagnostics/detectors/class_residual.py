"""Outliers by CLIPtrase's released denoising: columns that the class token's row takes away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.detectors.base import ThresholdDetector
from diagnostics.layout import Layout
from diagnostics.measures.lengths import unit_vectors
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class ClassResidual(ThresholdDetector):
    """Marks patches that the class token resembles more than the patches do on average.

    The released code sets W_ij <- max(0, W_ij - W_cls,j) among patches, W being the mean over heads of the q-q, k-k and
    v-v cosines. It removes no patch: it dampens columns. As a detector, the score is how far the subtraction exceeds
    the column, W_cls,j - mean_i W_ij: in [-2, 2], above 0 where more than the column's mean is taken away. No matrix is
    made.
    Source: leaves162/CLIPtrase 2b7de61; to detect by it, and by this score, is ours. The paper's Eq 7 is another rule,
    see `self-correlation`.

    Extreme values: only directions count, so any length is right; a zero vector has cosine 0. In bf16 up to 7 % of the
    marks differ, near the line; the scores' rank correlation is 0.999 or more (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ("query", "key", "value")
    published: ClassVar[str] = (
        "0.2 is our choice: the released denoising (leaves162/CLIPtrase 2b7de61, CLIP ViT-B/16 at layer -2) subtracts "
        "the class token's row and marks nothing."
    )

    threshold: float = 0.2  # our choice: layers without outliers stay below it, not below 0

    def unsupported_reason(self, layout: Layout) -> str | None:
        return None if layout.has_class_token else "the model has no class token"

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        excess = []
        for name in self.needs:
            unit = unit_vectors(recording[name].float())
            patches = layout.patches(unit, dim=2)
            # Both terms are inner products with the column's patch, so one with their difference.
            away = layout.class_token(unit, dim=2) - patches.mean(dim=2)
            excess.append((patches * away[:, :, None]).sum(dim=-1))
        return torch.stack(excess).mean(dim=(0, 2))
