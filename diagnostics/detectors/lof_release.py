"""The density ratio that SC-CLIP's released code uses for its anomaly tokens, and its fixed share of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from diagnostics.detectors.features import TokenTap
from diagnostics.detectors.neighbors import NeighborDetector, nearest_others

# Ours: keeps the ratio finite for patches with more copies than neighbors, where the released code divides by 0.
TINY = 1e-20


def density_ratio(features: Tensor, *, neighbors: int) -> Tensor:
    """κ_i · mean_j 1/κ_j over the neighbors j of patch i: (B, N, D) -> (B, N), at least 0; about 1 is ordinary.

    κ is the squared distance to the furthest of the `neighbors` nearest patches.
    Source: SuleBai/SC-CLIP 0417ba9, clip/model.py. Its reachability distance takes the patch's own κ, which cancels the
    distances, and squares them: a simpler ratio than LOF's.
    """
    distances, others = nearest_others(features, neighbors)
    reach = distances[..., -1].square() + TINY
    return reach * (1 / reach).gather(1, others.flatten(1)).view(others.shape).mean(dim=-1)


@dataclass(frozen=True, kw_only=True)
class LofRelease(NeighborDetector):
    """Marks the 5 % of patches with the largest density ratio, as SC-CLIP's code does.

    Score: κ_i · mean_j(1/κ_j), κ the squared distance to the 30th neighbor; no unit, 1 is ordinary. A quota: 10 of
    196, 13 of 256, 3 of 49 patches, outliers or not; none where all scores are equal. Blind to a cluster of more than
    `neighbors` outliers. An image with a nan or infinite value has nan scores and no outliers.
    Source: SuleBai/SC-CLIP 0417ba9, clip/model.py; paper arXiv:2411.15869.

    Extreme values: at most 1e12, beside patches that are copies of each other. One patch of 1e30 makes copies of all
    others to double precision. In bf16 up to 15 % of the marks differ, where the quota reaches into ordinary patches;
    the scores' rank correlation is 0.996 or more (docs/half-precision.md).
    """

    # Deviation: the released code computes distances in the model's dtype, fp16 on a GPU; we compute them in fp32.
    quota: ClassVar[bool] = True
    published: ClassVar[str] = (
        "SC-CLIP's code: 30 neighbors, contamination 0.05, patches of the last but one block of CLIP B/16 and L/14."
    )
    neighbors: int = 30  # SC-CLIP 0417ba9
    contamination: float = 0.05  # SC-CLIP 0417ba9
    tap: TokenTap = "block_out"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.contamination <= 1:
            raise ValueError(f"`contamination` should be a share from 0 to 1, such as 0.05; got {self.contamination}.")

    def score_features(self, features: Tensor) -> Tensor:
        return density_ratio(features, neighbors=self.neighbors)

    def mark(self, scores: Tensor) -> Tensor:
        return scores > scores.quantile(1 - self.contamination, dim=1, keepdim=True)
