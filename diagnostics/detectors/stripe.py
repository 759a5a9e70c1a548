"""Outliers by stripes: columns of the attention map that are bright whatever the query."""

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

# Least deviation of a column, as a part of the even share: below it are rounding and nothing else. Our choice.
FLOOR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Stripe(ThresholdDetector):
    """Marks patches whose column of the attention map is bright for nearly every query: a vertical stripe.

    Score: (m_j - median_k m_k) / s_j, with m_j and s_j the mean and the standard deviation of column j over the patch
    queries, on the map averaged over heads. No unit; 0 is an ordinary column, 1 one that stands above it by its own
    spread. A stripe has a high mean and little variance; a patch that only its surroundings attend to has much, so it
    scores low, which received attention does not tell apart. An even map scores 0.
    Source: stripes of CLIPtrase (ECCV 2024), Fig 2, SFP (ICCV 2025), supplement Fig 1 a, and RF-CLIP,
    arXiv:2511.16170, which show them and give no formula; this one is ours.

    Extreme values: s_j is at least 1e-3 of the even share 1/T, so a score is at most 1000 T; finite for finite queries
    and keys. In bf16 up to 7 % of the marks differ, near the line; the scores' rank correlation is 0.999 or more
    (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    published: ClassVar[str] = (
        "1 is our choice, as is the formula: stripes are shown for CLIP ViT-B/16 from about layer 6 on, without a line."
    )

    threshold: float = 1.0  # our choice: one standard deviation of the column itself

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """One map of what patches attend to, in fp32."""
        return FLOAT * layout.count * layout.tokens

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        maps = patch_map(recording["query"], recording["key"], layout, recording.get("attention_bias"))
        deviation, mean = torch.std_mean(maps, dim=1, correction=0)
        above = mean - torch.quantile(mean, 0.5, dim=1, keepdim=True)
        return above / deviation.clamp_min(FLOOR / layout.tokens)
