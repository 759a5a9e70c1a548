"""Masks by density clustering of the patches' correlations, as in CLIPtrase."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.check_numbers import check_positive
from segment.decoding.masks.base import NOWHERE, Clusters, PatchMasks, check_resizing, extra
from segment.method import Encoding, check_words

# Patches -> eps and min_samples. Source: leaves162/CLIPtrase 2b7de61, at 224 and 336 pixels with patches of 16.
RELEASED: dict[int, tuple[float, int]] = {196: (0.7, 3), 441: (1.1, 7)}


def density_settings(patches: int) -> tuple[float, int]:
    """eps and min_samples for a grid of so many patches: the released two, and between and beyond a rule of ours.

    The rule is the power law through both: eps = 0.7 (N / 196)^0.557, close to the root by which distances between
    rows of N numbers grow, and min_samples = 3 (N / 196)^1.045, rounded, at least 2.
    """
    # Deviation: the released code knows no other grids than these two.
    if patches in RELEASED:
        return RELEASED[patches]
    (small, (near, few)), (large, (far, many)) = RELEASED.items()
    share = math.log(patches / small) / math.log(large / small)
    return near * (far / near) ** share, max(2, round(few * (many / few) ** share))


@dataclass(frozen=True, kw_only=True)
class Dbscan(PatchMasks):
    """Clusters of patches with neighbors enough nearby; the others are noise and shape no mask.

    DBSCAN by Euclidean distance of rows of the affinity (`on="affinity"`), or of the patches' features, unit length
    (`features`; CLIPtrase, Table 2: prototypes are still rows of the affinity). A core patch has `min_samples` patches
    within `eps`, itself included; None is the released number for the grid, see `density_settings`. `unit_rows` brings
    rows of the affinity to length 1 first (Eq 4; the released code does not). Patches that the encoder did not keep are
    noise. Source: CLIPtrase (Shao et al., ECCV 2024), Eq 4-6.
    """

    eps: float | None = None
    min_samples: int | None = None
    unit_rows: bool = False
    on: Literal["affinity", "features"] = "affinity"
    enlarge: int = 4  # leaves162/CLIPtrase 2b7de61
    median: int = 7  # leaves162/CLIPtrase 2b7de61

    def __post_init__(self) -> None:
        check_words(self)
        if self.eps is not None:
            check_positive("eps", self.eps, hint="a distance, or none for the released one")
        if self.min_samples is not None and self.min_samples < 1:
            raise ValueError(
                f"`min_samples` should be at least 1, or none for the released one; got {self.min_samples}."
            )
        check_resizing(self.enlarge, self.median)

    def clusters(self, encoding: Encoding) -> Clusters:
        affinity = extra(encoding, "affinity", of="`masks=dbscan`").float().cpu()
        kept = extra(encoding, "kept", of="`masks=dbscan`").cpu()
        points = affinity if self.on == "affinity" else encoding.patches.float().cpu()
        if self.unit_rows or self.on == "features":
            points = F.normalize(points, dim=-1)
        eps, fewest = density_settings(encoding.layout.count)
        settings = (self.eps or eps, self.min_samples or fewest)
        labels = [_density_clusters(*image, *settings) for image in zip(points, kept, strict=True)]
        return Clusters(torch.stack(labels), affinity)


def _density_clusters(points: Tensor, kept: Tensor, eps: float, min_samples: int) -> Tensor:
    """Cluster of each row, -1 for noise and for rows that are not kept: (N, M), (N) bool -> (N) int64."""
    from sklearn.cluster import DBSCAN

    labels = torch.full((len(points),), NOWHERE)
    if kept.any():
        clusters = DBSCAN(eps=eps, min_samples=min_samples).fit_predict(points[kept].numpy())
        labels[kept] = torch.from_numpy(clusters).long()
    return labels
