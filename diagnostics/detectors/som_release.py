"""Outliers by SFP's released rule: the class row raised, compared with the diagonal, and the ten best kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.check_numbers import check_positive
from diagnostics.detectors.base import ThresholdDetector, largest
from diagnostics.layout import Layout
from diagnostics.measures.attention import attention_statistics, class_row
from diagnostics.tap_places import ATTENTION_PARTS
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class SomRelease(ThresholdDetector):
    """Marks at most ten patches to which the class token, its row raised by half, attends more than they to themselves.

    With A the mean over heads, patch i is a candidate if `factor`·A[cls,i] > A[i,i]; the `most` candidates with the
    largest A[cls,i] are kept. The score carries both: a candidate's is A[cls,i], above 0, any other's is
    `factor`·A[cls,i] - A[i,i], at most 0. So it lies in (-1, 1], its sign tells candidates, and their order is that of
    class attention. `threshold` raises the class attention that a candidate must have; 0 is the release.
    Source: Kimsure/SFP 2804f5b, option `SOM`, where 1.5 is written as 0.3 · 5.0.

    Extreme values: finite for finite queries and keys; of equal patches the first ten are marked. In bf16 up to 8 % of
    the marks differ, where the quota reaches into ordinary patches; the scores' rank correlation is 0.997 or more
    (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    published: ClassVar[str] = (
        "class row x 1.5, mean over heads, at most 10 patches: Kimsure/SFP 2804f5b, for CLIP ViT-B/16 at layer -2 "
        "only. The paper's Eq 4 has neither factor nor limit."
    )

    threshold: float = 0.0  # by construction: candidates score above 0
    factor: float = 1.5  # Kimsure/SFP 2804f5b: 0.3 · 5.0
    most: int = 10  # Kimsure/SFP 2804f5b

    def __post_init__(self) -> None:
        check_positive("factor", self.factor, hint="in the released code 1.5")
        if self.most < 1:
            raise ValueError(f"`most` should be at least 1, the number of patches to keep; got {self.most}.")

    def unsupported_reason(self, layout: Layout) -> str | None:
        return None if layout.has_class_token else "the model has no class token"

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        q, k, bias = recording["query"], recording["key"], recording.get("attention_bias")
        by_class = class_row(q, k, layout, bias).mean(dim=1)
        by_self = attention_statistics(q, k, layout, {"self"}, bias=bias)["self"].mean(dim=1)
        excess = self.factor * by_class - by_self
        return torch.where(excess > 0, by_class, excess)

    def mark(self, scores: Tensor) -> Tensor:
        return super().mark(scores) & largest(scores, self.most)
