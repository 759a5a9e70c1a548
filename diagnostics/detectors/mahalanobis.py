"""Mahalanobis distance of each patch from its image's mean, with a covariance shrunk so that it has an inverse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from diagnostics.check_numbers import check_positive
from diagnostics.detectors.base import ThresholdDetector
from diagnostics.detectors.features import TokenTap, over_median, patch_features, score_whole
from diagnostics.layout import Layout
from diagnostics.taps import Recording


def shrunk_covariance(centered: Tensor) -> Tensor:
    """Covariance of each image, drawn towards a multiple of the identity: (B, N, D) of mean 0 -> (B, D, D).

    The amount is the one with the least expected error; it gives an inverse where D exceeds N. All zeros stay zeros.
    Source: Ledoit and Wolf, J. Multivariate Analysis 88 (2004), Sec 3.3, with N as divisor.
    """
    count, width = centered.shape[1:]
    covariance = centered.mT @ centered / count
    scale = covariance.diagonal(dim1=1, dim2=2).mean(dim=1)
    spread = covariance.square().sum(dim=(1, 2))
    # How far the covariance is from the multiple of the identity, and how much of that is chance.
    distance = spread - width * scale.square()
    chance = (centered.square().sum(dim=2).square().sum(dim=1) / count - spread) / count
    amount = (chance.minimum(distance) / distance.clamp_min(torch.finfo(distance.dtype).tiny)).clamp(0, 1)
    identity = torch.eye(width, dtype=centered.dtype, device=centered.device)
    return (1 - amount)[:, None, None] * covariance + (amount * scale)[:, None, None] * identity


def mahalanobis_distance(features: Tensor, *, kept: float = 1.0) -> Tensor:
    """Distance from the image's mean in units of its shrunk spread: (B, N, D) -> (B, N), at least 0, no unit.

    Mean and spread are those of the share `kept` of the patches, the ones nearest to the median of each channel. 0
    where all patches are equal. Computed in fp64: single channels of outliers are thousands of times the others.
    """
    features = features.double()
    middle = features.quantile(0.5, dim=1, keepdim=True)
    count = max(2, round(kept * features.shape[1]))
    nearest = torch.linalg.vector_norm(features - middle, dim=-1).topk(count, dim=1, largest=False).indices
    core = features.gather(1, nearest[..., None].expand(-1, -1, features.shape[2]))
    mean = core.mean(dim=1, keepdim=True)
    covariance = shrunk_covariance(core - mean)
    # Keeps the inverse there for an image whose patches differ in too few directions, or not at all.
    floor = covariance.diagonal(dim1=1, dim2=2).mean(dim=1) * 1e-12 + torch.finfo(covariance.dtype).tiny
    covariance.diagonal(dim1=1, dim2=2).add_(floor[:, None])
    factor = torch.linalg.cholesky(covariance)
    solved = torch.linalg.solve_triangular(factor, (features - mean).mT, upper=False)
    return torch.linalg.vector_norm(solved, dim=1).float()


@dataclass(frozen=True, kw_only=True)
class Mahalanobis(ThresholdDetector):
    """Marks patches far from the image's mean, by the image's own spread in each direction.

    Score: Mahalanobis distance over the image's median of it; no unit, 1 is ordinary. Mean and covariance are those
    of the share `kept` of the patches nearest to the channels' medians, since outliers stretch the spread of all
    patches and hide behind it: with `kept=1`, the textbook's distance, ten equal outliers of 196 score below ordinary
    patches, and a threshold near 1.5 fits. The covariance is Ledoit and Wolf's, for D may exceed N; so the squared
    distance follows no chi-square law, and a quantile of one can't be the threshold. All are 0 where all patches are
    equal. An image with a nan or infinite value has nan scores and no outliers.
    Source: Mahalanobis 1936; shrinkage: Ledoit and Wolf 2004; a nearest part as in Rousseeuw's minimum covariance
    determinant (1985), in one step; the ratio is ours.

    Extreme values: in double precision, at most 1e6. In bf16 up to 10 % of the marks differ, as patches beyond the part
    that is kept change places; the scores' rank correlation is 0.994 or more (docs/half-precision.md).
    """

    published: ClassVar[str] = "no threshold is published for patches; the textbook's chi-square needs N far above D."
    kept: float = 0.75  # our choice: more than any share of outliers that is reported
    # Our choice: 99 % of the ordinary patches of timm's ViT-Ti/16 at 224 stay below it, and its outliers start at 27
    # (layers 8 and 11, 8 images of VOC 2012).
    threshold: float = 8.0
    tap: TokenTap = "block_out"

    def __post_init__(self) -> None:
        if not 0 < self.kept <= 1:
            raise ValueError(f"`kept` should be a share of the patches above 0, at most 1; got {self.kept}.")
        check_positive("threshold", self.threshold, hint="where 1 is ordinary, such as 8")

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.tap,)

    def unsupported_reason(self, layout: Layout) -> str | None:
        return None if layout.count > 1 else f"{layout.count} patch has no spread. Take a larger image"

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        features = patch_features(recording, layout, self.tap)
        return score_whole(features, lambda whole: over_median(mahalanobis_distance(whole, kept=self.kept)))
