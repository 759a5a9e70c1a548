"""Scores drawn at random: the floor that every detector must beat."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.detectors.base import Detector, largest
from diagnostics.detectors.features import patch_features, score_whole
from diagnostics.layout import Layout
from diagnostics.measures.norms import token_norms
from diagnostics.taps import Recording

ENDS = 4  # our choice: longest and shortest patches by which an image is known


@dataclass(frozen=True, kw_only=True)
class RandomScores(Detector):
    """Marks patches at random: the floor for a comparison.

    Score: uniform in [0, 1), no unit, drawn anew for each image and each `seed`. A quota: the `count` largest are
    marked. An image is known by which of its patches are the longest and the shortest at this layer, so that it has
    the same scores in every batch and on every device, and other ones at other layers. Scores belong to places: they
    don't follow a permutation or a flip. An image with a nan or infinite value has nan scores and no outliers.
    Source: ours.

    Extreme values: any finite entry will do. In bf16 up to 64 % of the marks differ, as another order of lengths is
    another draw; the scores' rank correlation is 0.513 or more (docs/half-precision.md).
    """

    quota: ClassVar[bool] = True
    published: ClassVar[str] = "a control; 10 is the number that SC-CLIP and SFP mark in CLIP B/16 at 224."
    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    count: int = 10  # as many as the fixed quotas of SC-CLIP and SFP
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"`count` should be at least 0; got {self.count}.")

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        return score_whole(patch_features(recording, layout, "block_out"), self._draw)

    def mark(self, scores: Tensor) -> Tensor:
        return largest(scores, self.count) & ~scores.isnan()

    def _draw(self, features: Tensor) -> Tensor:
        # Places and not values: values change in the last digit with the size of the batch.
        order = token_norms(features).argsort(dim=1, stable=True).cpu()
        drawn = [self._uniform(image) for image in order]
        return torch.stack(drawn).to(features.device) if drawn else features.new_zeros(features.shape[:2])

    def _uniform(self, order: Tensor) -> Tensor:
        key = (self.seed, len(order), *order[:ENDS].tolist(), *order[-ENDS:].tolist())
        digest = hashlib.blake2b(repr(key).encode(), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
        return torch.rand(len(order), generator=generator)
