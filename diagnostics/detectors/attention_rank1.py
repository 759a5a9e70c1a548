"""Outliers by the rank-one part of the attention map: where its leading right singular vector lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.detectors.base import ThresholdDetector
from diagnostics.detectors.patch_map import patch_map
from diagnostics.layout import Layout
from diagnostics.memory import FLOAT
from diagnostics.tap_places import ATTENTION_PARTS
from diagnostics.taps import Recording

# Steps of the power iteration. Our choice: enough to leave 1e-3 of the second vector where σ₂/σ₁ is 0.95.
STEPS = 64


def leading_right_vector(maps: Tensor) -> Tensor:
    """The right singular vector of the largest singular value, up to sign, of length 1: (…, R, N) -> (…, N).

    By power iteration on mapsᵀ·maps from the column means, which are not orthogonal to it in a non-negative map. Where
    several singular values are the largest, the column means' part along their vectors. Zeros for a map of zeros.
    """
    gram = maps.mT @ maps
    vector = maps.mean(dim=-2, keepdim=True)
    for _ in range(STEPS):
        vector = vector @ gram
        vector = vector / vector.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    return vector[..., 0, :]


@dataclass(frozen=True, kw_only=True)
class AttentionRank1(ThresholdDetector):
    """Marks patches on which the leading right singular vector of the attention map lies.

    Score: N · v_j², v of length 1, from the patch-patch map averaged over heads; at least 0, at most N, mean 1. Where
    all queries attend to the same few patches, the map is nearly a column of ones times one row, and v is that row.
    Source: ours; that stripes make attention nearly of rank one is seen in CLIPtrase (ECCV 2024), Fig 2.

    Extreme values: finite for finite queries and keys; 0 where patches get no attention. In bf16 up to 3 % of the marks
    differ, near the line; the scores' rank correlation is 0.999 or more (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    published: ClassVar[str] = (
        "5 is our choice: no paper has this detector. Scores have mean 1, so that fewer than a fifth are marked."
    )

    threshold: float = 5.0  # our choice

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """One map of what patches attend to, in fp32."""
        return FLOAT * layout.count * layout.tokens

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        vector = leading_right_vector(
            patch_map(recording["query"], recording["key"], layout, recording.get("attention_bias"))
        )
        return layout.count * vector.square()
