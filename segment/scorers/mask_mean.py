"""Scores of whole masks: features averaged over each mask and compared with the words, as in LaVG."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segment.decoding.interpolation import linear_weights
from segment.decoding.masks.base import MaskSource
from segment.decoding.masks.left import LeftMasks
from segment.method import Encoding, Scorer, Scores, TextFeatures

# The cosine that no word falls below: what a forbidden one gets.
LOWEST = -1.0


@dataclass(frozen=True, kw_only=True)
class MaskMean(Scorer):
    """Every pixel of a mask gets the mask's scores: the cosines of its mean feature with each query.

    `masks` is where they come from, by default from the encoder. Patches are brought to unit length, enlarged to the
    window bilinearly and averaged over each mask; the pixels of no mask, the remainder, are one mask as well.
    `renormalize` brings the mean to unit length; without it the scores are the means of the pixels' cosines.
    `background_only` leaves the remainder no label but the background's, where the vocabulary has one: the others get
    -1, the lowest cosine.
    Source: LaVG (Kang and Cho, ECCV 2024), dahyun-kang/lavg 2db88e5, with `background_only` for VOC21.
    """

    masks: MaskSource = LeftMasks()
    renormalize: bool = False  # our choice, as cosines are averaged elsewhere
    background_only: bool = False

    def __call__(self, encoding: Encoding, text: TextFeatures, size: tuple[int, int]) -> Scores:
        regions = self.masks(encoding, size).to(encoding.patches.device)
        count = int(regions.max()) + 1
        regions = torch.where(regions < 0, count, regions)
        means = region_means(encoding, regions, count + 1)
        if self.renormalize:
            means = F.normalize(means, dim=-1)
        cosines = means @ text.features.to(means).mT  # (B, K + 1, Q)
        if self.background_only and text.background is not None:
            foreground = text.owners.to(cosines.device) != text.background
            cosines[:, count] = cosines[:, count].masked_fill(foreground, LOWEST)
        picked = cosines.mT.gather(2, regions.flatten(1)[:, None].expand(-1, cosines.shape[2], -1))
        return Scores(picked.unflatten(2, regions.shape[1:]))


def region_means(encoding: Encoding, regions: Tensor, count: int) -> Tensor:
    """Mean over each region of unit patches enlarged bilinearly: regions (B, h, w) of 0…K-1 -> (B, K, E), fp32.

    The regions cover the grid with its padding. An empty region has a mean of zeros.
    """
    unit = F.normalize(encoding.patches.float(), dim=-1)
    down, across = (
        linear_weights((torch.arange(size, dtype=torch.float64) + 0.5) * cells / size, cells).to(unit)
        for size, cells in zip(regions.shape[1:], encoding.layout.grid, strict=True)
    )
    means = []
    for number in range(count):
        inside = (regions == number).to(unit)
        # What each patch weighs in the mean: the enlarged features themselves are never made.
        weights = torch.einsum("hr,bhw,wc->brc", down, inside, across).flatten(1)
        means.append((weights[:, None] @ unit)[:, 0] / inside.sum(dim=(1, 2))[:, None].clamp_min(1))
    return torch.stack(means, dim=1)
