"""Distance to the nearest patches, the plainest detector of isolated points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from diagnostics.check_numbers import check_positive
from diagnostics.detectors.base import ThresholdDetector
from diagnostics.detectors.features import TokenTap, over_median
from diagnostics.detectors.neighbors import NeighborDetector, nearest_others

Distance = Literal["mean", "largest"]


def neighbor_distance(features: Tensor, *, neighbors: int, distance: Distance) -> Tensor:
    """Mean or largest distance to the nearest patches: (B, N, D) -> (B, N), at least 0, in the features' unit."""
    distances = nearest_others(features, neighbors)[0]
    return distances[..., -1] if distance == "largest" else distances.mean(dim=-1)


@dataclass(frozen=True, kw_only=True)
class KNearest(NeighborDetector, ThresholdDetector):
    """Marks patches that lie far from their nearest patches.

    Score: mean (or `distance="largest"`: k-th) distance to the `neighbors` nearest patches, over the image's median
    of that distance; no unit, 1 is ordinary. Blind to a cluster of more than `neighbors` outliers. Where the median
    is 0 (more than half of the patches are copies) the furthest patch has 1e6; equal patches have 0.
    An image with a nan or infinite value has nan scores and no outliers.
    Source: Ramaswamy et al., SIGMOD 2000 (k-th distance); Angiulli and Pizzuti, PKDD 2002 (mean). The ratio is ours.

    Extreme values: at most 1e6. One patch of 1e30 makes copies of all others to double precision. In bf16 up to 1 % of
    the marks differ, near the line; the scores' rank correlation is 0.999 or more (docs/half-precision.md).
    """

    published: ClassVar[str] = "no threshold is published: the sources rank and take the n largest."
    neighbors: int = 20  # our choice: the same as for `lof`
    distance: Distance = "mean"
    threshold: float = 2.0  # our choice
    tap: TokenTap = "block_out"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance not in ("mean", "largest"):
            raise ValueError(f"`distance` should be mean or largest; got `{self.distance}`.")
        check_positive("threshold", self.threshold, hint="where 1 is ordinary, such as 2")

    def score_features(self, features: Tensor) -> Tensor:
        return over_median(neighbor_distance(features, neighbors=self.neighbors, distance=self.distance))
