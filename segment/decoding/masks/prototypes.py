"""Prototypes of clusters, and the regions of pixels where each is the largest."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor


def mean_rows(rows: Tensor, clusters: Tensor) -> Tensor:
    """The mean row of each cluster, -1 left out: (N, M), clusters (N) of 0…K-1 or -1 -> (K, M).

    Source: CLIPtrase (Shao et al., ECCV 2024), Eq 5.
    """
    numbers = range(int(clusters.max()) + 1 if len(clusters) else 0)
    means = [rows[clusters == number].mean(dim=0) for number in numbers]
    return torch.stack(means) if means else rows.new_zeros(0, rows.shape[1])


def prototype_regions(prototypes: Tensor, size: tuple[int, int], *, enlarge: int = 4, median: int = 7) -> Tensor:
    """The largest prototype at each pixel: (K, rows, cols) -> (h, w) int64; of equal ones the first, -1 if K = 0.

    Prototypes are made `enlarge` times as large, bilinearly, smoothed by a median over `median` x `median` places
    (mirrored at the border, edge included), and brought to `size`, bilinearly. On the CPU.
    Source: CLIPtrase, Eq 6; the steps and their sizes: leaves162/CLIPtrase 2b7de61.
    """
    if not len(prototypes):
        return torch.full(size, -1)
    maps = prototypes.float().cpu()
    if enlarge > 1:
        maps = F.interpolate(maps[None], scale_factor=enlarge, mode="bilinear", align_corners=False)[0]
    if median > 1:
        maps = torch.from_numpy(ndimage.median_filter(maps.numpy(), size=(1, median, median), mode="reflect"))
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0].argmax(dim=0)
