"""Masks by what another backbone finds alike, such as DINO or DINOv2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.images import normalize
from diagnostics.layout import Grid
from diagnostics.measures.similarity import cosine_affinity
from segment.decoding.masks.base import NOWHERE, Clusters, PatchMasks, check_resizing, extra
from segment.encoders.second_backbone import DINO, SELF, second_backbone
from segment.method import Encoding, check_words


@dataclass(frozen=True, kw_only=True)
class AffinityMasks(PatchMasks):
    """Patches that a second backbone finds alike: cosine of its projected patches at least `threshold`.

    `vfm` is the second backbone's spec, or `self` for the method's own patches. `regions="connected"` joins neighbors
    on the grid (left, right, above, below), so that two cats apart are two masks; `clustered` joins patches wherever
    they are. Regions of fewer than `smallest` patches shape no mask. The second backbone sees the same window, and its
    features are resampled to the grid of the first, bilinearly.
    Deviation: CLIPtrase (Table 5) reports masks by DINO without saying how; threshold, joining and sizes are ours.
    """

    vfm: str = DINO
    threshold: float = 0.6  # our choice
    regions: Literal["connected", "clustered"] = "connected"  # our choice
    smallest: int = 3  # our choice, the fewest of CLIPtrase's clusters at 224
    enlarge: int = 4  # as for the clusters of CLIPtrase
    median: int = 7  # as for the clusters of CLIPtrase

    def __post_init__(self) -> None:
        check_words(self)
        if not -1 <= self.threshold <= 1:
            raise ValueError(f"`threshold` should be a cosine, in [-1, 1]; got {self.threshold}.")
        if self.smallest < 1:
            raise ValueError(f"`smallest` should be a number of patches, at least 1; got {self.smallest}.")
        check_resizing(self.enlarge, self.median)

    def clusters(self, encoding: Encoding) -> Clusters:
        patches = encoding.patches.float()
        if self.vfm != SELF:
            image = extra(encoding, "image", of="`masks=affinity`")
            second = second_backbone(self.vfm, like=image)
            patches = resampled_patches(second, image, encoding.layout.grid)
        affinity = cosine_affinity(patches).cpu()
        alike = affinity >= self.threshold
        if self.regions == "connected":
            alike = alike & _neighbors(encoding.layout.grid)
        return Clusters(torch.stack([_components(links, self.smallest) for links in alike]), affinity)


def resampled_patches(backbone: Backbone, image: Tensor, grid: Grid) -> Tensor:
    """A backbone's projected patches, resampled to a grid of the same image: (B, 3, h, w) in [0, 1] -> (B, N, E).

    An image that is no whole number of its patches is stretched to the next one, so that both grids cover the same.
    """
    wanted = [-(-side // patch) * patch for side, patch in zip(image.shape[-2:], backbone.patch_size, strict=True)]
    if wanted != list(image.shape[-2:]):
        image = F.interpolate(image, size=wanted, mode="bilinear", align_corners=False, antialias=True)
    layout = backbone.layout(image)
    with torch.no_grad():
        tokens = backbone.trunk(normalize(image, backbone.mean, backbone.std))
        patches = layout.patches(backbone.project(tokens)).float()
    if layout.grid == grid:
        return patches
    maps = layout.to_map(patches).permute(0, 3, 1, 2)
    return F.interpolate(maps, size=tuple(grid), mode="bilinear", align_corners=False).flatten(2).mT


def _neighbors(grid: Grid) -> Tensor:
    """Which patches touch, side by side or one above the other: (N, N) bool."""
    row, col = torch.meshgrid(torch.arange(grid.rows), torch.arange(grid.cols), indexing="ij")
    row, col = row.flatten(), col.flatten()
    return (row[:, None] - row).abs() + (col[:, None] - col).abs() == 1


def _components(links: Tensor, smallest: int) -> Tensor:
    """The connected part of each patch, numbered by first appearance, -1 for small ones: (N, N) bool -> (N) int64."""
    _, part = connected_components(coo_array(links.numpy()), directed=False)
    first, inverse, counts = np.unique(part, return_index=True, return_inverse=True, return_counts=True)[1:]
    large = [number for number in np.argsort(first) if counts[number] >= smallest]
    renumbered = np.full(len(counts), NOWHERE)
    renumbered[large] = np.arange(len(large))
    return torch.from_numpy(renumbered[inverse])
