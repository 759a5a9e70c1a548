"""Outliers by the attention that a patch receives: attention sinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.detectors.base import ThresholdDetector
from diagnostics.layout import Layout
from diagnostics.measures.attention import attention_statistics
from diagnostics.tap_places import ATTENTION_PARTS
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class ReceivedAttention(ThresholdDetector):
    """Marks patches that receive several times an even share of the attention: sinks.

    Score: T · mean of A[i,j] over patch queries i and heads; at least 0, at most T, 1 is even. Prefix tokens are not
    counted as queries, yet they take part of the attention, so patches may all score below 1.
    Source: attention sinks of Xiao et al. 2023, arXiv:2309.17453, and Gu et al. 2024, arXiv:2410.10781; the multiple of
    the even share is ours.

    Extreme values: finite for finite queries and keys, and at most T. In bf16 up to 2 % of the marks differ, near the
    line; the scores' rank correlation is 0.999 or more (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    published: ClassVar[str] = (
        "3 is our choice. Gu et al. 2024, arXiv:2410.10781, call a language model's token a sink of one head above a "
        "share of 0.3; no line for vision transformers is published."
    )

    threshold: float = 3.0  # our choice

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        received = attention_statistics(
            recording["query"], recording["key"], layout, {"received"}, bias=recording.get("attention_bias")
        )["received"]
        return layout.tokens * layout.patches(received, dim=2).mean(dim=1)
