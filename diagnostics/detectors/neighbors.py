"""What detectors of local density share: the nearest patches of each, and their number as a setting."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from diagnostics.detectors.base import Detector
from diagnostics.detectors.features import TokenTap, patch_features, score_whole
from diagnostics.layout import Layout
from diagnostics.memory import FLOAT
from diagnostics.taps import Recording

# Share of two squared lengths below which double precision can't tell their squared distance from 0: our choice.
SAME = 1e-13
# Largest entry that is left as it is; images with larger ones are scaled down to it. And the greatest score: beside
# copies of each other, which have no distance, any other patch would be infinitely lonely. Our choice, both.
LARGEST, GREATEST_SCORE = 1e6, 1e12


class NeighborDetector(Detector):
    """A detector that compares each patch of a tap with its `neighbors` nearest patches.

    A part derives from this interface, has both settings as fields, and scores the features in `score_features`.
    """

    neighbors: int
    tap: TokenTap

    def __post_init__(self) -> None:
        if isinstance(self.neighbors, bool) or not isinstance(self.neighbors, int) or self.neighbors < 1:
            raise ValueError(f"`neighbors` should be a whole number of at least 1, such as 20; got {self.neighbors}.")

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.tap,)

    @final
    def unsupported_reason(self, layout: Layout) -> str | None:
        if layout.count > self.neighbors:
            return None
        return (
            f"{layout.count} patches can't have {self.neighbors} neighbors each. Set `neighbors` to at most "
            f"{layout.count - 1}, as in lof:neighbors={layout.count - 1}, or take larger images (--size, size=)"
        )

    @final
    def least_bytes(self, layout: Layout, heads: int) -> int:
        """The distances of all pairs of patches, in double precision."""
        return 2 * FLOAT * layout.count**2

    @final
    def score(self, recording: Recording, layout: Layout) -> Tensor:
        return score_whole(patch_features(recording, layout, self.tap), self._scaled)

    def _scaled(self, features: Tensor) -> Tensor:
        # Scores are ratios of distances, which know no scale; squares of large ones would leave fp32.
        largest = features.abs().amax(dim=(1, 2), keepdim=True)
        scores = self.score_features(features / (largest / LARGEST).clamp_min(1))
        return scores.clamp_max(GREATEST_SCORE)

    @abstractmethod
    def score_features(self, features: Tensor) -> Tensor:
        """Scores of whole images: (B, N, D) -> (B, N), higher is more outlying."""


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distance of every two patches: (B, N, D) -> (B, N, N), in the dtype of `features`.

    Through scalar products in double precision about the image's mean: single precision would lose the digits of
    small distances between long tokens, which is where outliers are. What even that can't tell from a copy is one.
    """
    if features.device.type == "mps":  # has no double precision; the differences themselves are exact, and slow
        return torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    centered = features.double()
    centered = centered - centered.mean(dim=1, keepdim=True)
    length = centered.square().sum(dim=-1)
    both = length[:, :, None] + length[:, None]
    squared = torch.baddbmm(both, centered, centered.mT, alpha=-2)
    return squared.masked_fill(squared < SAME * both, 0).sqrt().to(features.dtype)


def nearest_others(features: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
    """Distances to the nearest other patches, ascending, and which they are: (B, N, D) -> two of (B, N, neighbors).

    A copy of a patch counts as another patch, at distance 0.
    """
    distances = pairwise_distances(features)
    distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest = distances.topk(neighbors, dim=-1, largest=False)
    return nearest.values, nearest.indices
