"""Normalized entropy: whether the entries of a layer are spread out, or a few of them outweigh all others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.measures.base import LayerView, Measure, Variable
from diagnostics.measures.tokens import STREAMS, Tokens, per_stream, stream_coordinates

# Entries further below the maximum count as if they were there: exp(-80) is 1e-35, nothing beside 1 in any number of
# tokens, and stops short of the underflow that makes processors thirty times slower.
FLOOR = -80.0


def normalized_entropy(tokens: Tensor) -> Tensor:
    """-Σ p ln p / ln n of p = softmax over all n = T·D entries of an image: (B, T, D) -> (B), in [0, 1].

    1 where all entries are equal, near 0 where one exceeds the rest by more than ln n (about 12). Shares never overflow
    nor underflow, so that 0·ln 0 does not arise. nan for a single entry.
    Source: ClearCLIP, arXiv:2407.12442, Eq 5.
    """
    entries = tokens.flatten(1)
    # With z = x - max and s = Σ exp(z): -Σ p ln p = ln s - Σ exp(z) z / s. Both terms are at least 0, so that the
    # difference loses no digits; products are formed in place, since the entries of a batch are many.
    below = (entries - entries.amax(dim=1, keepdim=True)).clamp_min_(FLOOR)
    shares = below.exp()
    total = shares.sum(dim=1)
    entropy = total.log() - below.mul_(shares).sum(dim=1) / total
    count = entries.shape[1]
    return (entropy / (math.log(count) if count > 1 else math.nan)).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class Entropy(Measure):
    """Normalized entropy of what enters the block, of attention's output, and of their sum.

    Over the hw x d entries of the patches, divided by log(hw·d), as Eq 5 is printed; `tokens="all"` counts the prefix
    tokens as well, which is ours.
    Unit: 1; 1 is even, near 0 means that a few entries outweigh all others. Source: ClearCLIP, Eq 5 and Fig 4 a.

    Extreme values: 1 where all entries are equal, also all 0; near 0 where one is 1e30. In bf16 it moves by less
    than 0.01 on ViT-Ti/16, which is much of itself where it is near 0.
    """

    needs: ClassVar[tuple[str, ...]] = STREAMS
    tokens: Tokens = "patches"  # ClearCLIP, Eq 5: X is hw x d

    @property
    def variables(self) -> tuple[Variable, ...]:
        source = "ClearCLIP, arXiv:2407.12442, Eq 5"
        return (Variable("entropy", ("image", "layer", "stream"), "1", "normalized entropy", source),)

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return stream_coordinates()

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"entropy": per_stream(view, self.tokens, normalized_entropy)}
