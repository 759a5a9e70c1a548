"""Local outlier factor: how much thinner the neighborhood of a patch is than those of its neighbors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.check_numbers import check_positive
from diagnostics.detectors.base import ThresholdDetector
from diagnostics.detectors.features import TokenTap
from diagnostics.detectors.neighbors import NeighborDetector, nearest_others

TINY = 1e-10  # scikit-learn's: keeps the density of patches with more copies than neighbors finite


def local_outlier_factor(features: Tensor, *, neighbors: int) -> Tensor:
    """Mean density of the neighbors over the patch's own: (B, N, D) -> (B, N), above 0; about 1 is ordinary.

    Density is 1 over the mean reachability distance, max(distance, k-distance of the neighbor). The neighbors are
    exactly `neighbors` many, as in scikit-learn; of equally distant ones an arbitrary few are taken, where the paper
    takes all. Copies of a patch count as neighbors: where it has more of them than `neighbors`, its factor is 1.
    Source: Breunig et al., LOF, SIGMOD 2000, Def. 3-7.
    """
    distances, others = nearest_others(features, neighbors)
    shape = others.shape
    reach = distances.maximum(distances[..., -1].gather(1, others.flatten(1)).view(shape))
    density = 1 / (reach.mean(dim=-1) + TINY)
    return density.gather(1, others.flatten(1)).view(shape).mean(dim=-1) / density


@dataclass(frozen=True, kw_only=True)
class LocalOutlierFactor(NeighborDetector, ThresholdDetector):
    """Marks patches in a far thinner neighborhood than their neighbors' (textbook LOF).

    Score: mean density of the neighbors over the own; no unit, 1 is ordinary. Equal to scikit-learn's
    `LocalOutlierFactor`. Blind to a cluster of more than `neighbors` outliers: they are each other's neighbors.
    An image with a nan or infinite value has nan scores and no outliers.
    Source: Breunig et al., LOF: identifying density-based local outliers, SIGMOD 2000.

    Extreme values: at most 1e12, beside patches that are copies of each other; 1 where all are equal. One patch of 1e30
    makes copies of all others to double precision. In bf16 up to 5 % of the marks differ, near the line; the scores'
    rank correlation is 0.995 or more (docs/half-precision.md).
    """

    published: ClassVar[str] = (
        "scikit-learn: 20 neighbors, threshold 1.5 (contamination='auto'). SC-CLIP, arXiv:2411.15869, names LOF for "
        "the last but one layer of CLIP B/16 and L/14; its code takes 30 neighbors and a share, see `lof-release`."
    )
    neighbors: int = 20  # scikit-learn's default
    threshold: float = 1.5  # scikit-learn's offset for contamination="auto"
    tap: TokenTap = "block_out"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("threshold", self.threshold, hint="where 1 is ordinary, such as 1.5")

    def score_features(self, features: Tensor) -> Tensor:
        return local_outlier_factor(features, neighbors=self.neighbors)
