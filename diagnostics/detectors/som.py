"""Outliers by SFP's printed rule: the class token attends to the patch more than the patch does to itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from diagnostics.detectors.base import ThresholdDetector
from diagnostics.layout import Layout
from diagnostics.measures.attention import attention_statistics, class_row
from diagnostics.tap_places import ATTENTION_PARTS
from diagnostics.taps import Recording

# Our choice: a ratio above it says no more than that the patch attends to itself next to not at all.
GREATEST_RATIO = 1e6


@dataclass(frozen=True, kw_only=True)
class Som(ThresholdDetector):
    """Marks patches to which the class token attends more than they do to themselves.

    Score: A[cls,i] / A[i,i], from 0 to 1e6, 1 is a tie; with `compare="difference"` it is A[cls,i] - A[i,i], in
    (-1, 1), and the tie is at 0. `threshold` is the tie unless given. The matrix A is not made.
    `heads="mean"` averages the maps first; with `heads="vote"` a patch is marked where the rule holds in more than
    `vote_share` of the heads. Its score is then that of the head on which the vote hangs, so any threshold can vote.
    `replace` keeps the threshold: give it along with another `compare`.
    Source: SFP (Jin et al., ICCV 2025), Eq 4, which writes one map: how heads are reduced is our choice.

    Extreme values: finite for finite queries and keys; equal tokens tie, so that rounding decides. In bf16 up to 11 %
    of the marks differ, near the tie; the scores' rank correlation is 0.999 or more (docs/half-precision.md).
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    published: ClassVar[str] = (
        "A[cls,i] > A[i,i], no constant: SFP (Jin et al., ICCV 2025), Eq 4, for CLIP ViT-B/16, B/32 and L/14, at every "
        "layer. The mean over heads is our choice."
    )

    threshold: float | None = None  # type: ignore[assignment]  # None only until __post_init__ puts the tie
    compare: Literal["ratio", "difference"] = "ratio"  # our choice: one tie, two rankings
    heads: Literal["mean", "vote"] = "mean"  # our choice: the paper writes one map
    vote_share: float = 0.5  # our choice: more than half of the heads

    def __post_init__(self) -> None:
        if self.compare not in ("ratio", "difference"):
            raise ValueError(f"`compare` should be `ratio` or `difference`; got `{self.compare}`.")
        if self.heads not in ("mean", "vote"):
            raise ValueError(f"`heads` should be `mean` or `vote`; got `{self.heads}`.")
        if not 0 <= self.vote_share < 1:
            raise ValueError(f"`vote_share` should lie in [0, 1): more than that share votes; got {self.vote_share}.")
        if self.threshold is None:
            object.__setattr__(self, "threshold", 1.0 if self.compare == "ratio" else 0.0)

    def unsupported_reason(self, layout: Layout) -> str | None:
        return None if layout.has_class_token else "the model has no class token"

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        q, k, bias = recording["query"], recording["key"], recording.get("attention_bias")
        by_class = class_row(q, k, layout, bias)
        by_self = attention_statistics(q, k, layout, {"self"}, bias=bias)["self"]
        if self.heads == "mean":
            by_class, by_self = by_class.mean(dim=1), by_self.mean(dim=1)
        if self.compare == "difference":
            excess = by_class - by_self
        else:
            excess = (by_class / by_self.clamp_min(torch.finfo(by_self.dtype).tiny)).clamp_max(GREATEST_RATIO)
        if self.heads == "mean":
            return excess
        # More than the share of H heads are at least ⌊share·H⌋ + 1, so the least of that many best heads decides.
        needed = int(self.vote_share * excess.shape[1]) + 1
        return excess.sort(dim=1, descending=True).values[:, needed - 1]
