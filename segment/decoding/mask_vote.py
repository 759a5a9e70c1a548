"""Labels by a vote inside masks: patches that belong together decide together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from segment.decoding.masks import MaskSource
from segment.decoding.masks.base import NOWHERE
from segment.decoding.masks.dbscan import Dbscan
from segment.method import Cosine, Encoding, Scorer, Scores, TextFeatures, check_words

# Values of the full-size score maps that are held at once: 256 MB in single precision.
HELD = 2**26


def majority_vote(labels: Tensor, regions: Tensor, classes: int) -> Tensor:
    """Each region takes its most frequent label, of equal ones the lowest: (B, h, w) int64 twice -> (B, h, w).

    Regions are numbered 0…K-1 within each image; pixels of region -1 keep their label.
    Source: leaves162/CLIPtrase 2b7de61.
    """
    voted = []
    for labels_of_image, region in zip(labels, regions, strict=True):
        count = int(region.max()) + 1
        inside = region != NOWHERE
        votes = torch.bincount(region[inside] * classes + labels_of_image[inside], minlength=count * classes)
        winners = votes.view(count, classes).argmax(dim=1) if count else labels_of_image.new_zeros(1)
        voted.append(torch.where(inside, winners[region.clamp_min(0)], labels_of_image))
    return torch.stack(voted)


def mean_vote(maps: Tensor, regions: Tensor) -> Tensor:
    """Each region takes the mean of its scores: (B, Q, h, w), (B, h, w) int64 -> (B, Q, h, w).

    Pixels of region -1 keep their scores. Source: leaves162/CLIPtrase 2b7de61, its `d2` variant.
    """
    voted = maps.clone()
    for scores, region in zip(voted, regions, strict=True):
        for number in range(int(region.max()) + 1):
            inside = region == number
            if inside.any():
                scores[:, inside] = scores[:, inside].mean(dim=1, keepdim=True)
    return voted


def pixel_labels(maps: Tensor, owners: Tensor, size: tuple[int, int]) -> Tensor:
    """The best class at each pixel of maps brought to `size` bilinearly: (B, Q, rows, cols) -> (B, h, w) int64.

    A class has the largest score among its queries, `owners` (Q); of equal classes the lowest wins. The maps at full
    size are never held all at once.
    """
    order = owners.argsort(stable=True)
    step = max(1, HELD // (maps.shape[0] * size[0] * size[1]))
    best, label = maps.new_full((maps.shape[0], *size), -torch.inf), owners.new_zeros(maps.shape[0], *size)
    for part in order.split(step):
        large = F.interpolate(maps[:, part], size=size, mode="bilinear", align_corners=False)
        highest, place = large.max(dim=1)
        better = highest > best
        best, label = torch.where(better, highest, best), torch.where(better, owners[part][place], label)
    return label


@dataclass(frozen=True, kw_only=True)
class MaskVote(Scorer):
    """Cosines of patches with queries, brought to the window's pixels, then one answer for each mask.

    `vote="majority"`: every pixel takes its best class, every mask the most frequent label of its pixels. These
    labels count as 1 for that class and 0 for the others, so that the label of a single window is the vote's, and
    overlapping windows vote once more. `mean`: every mask takes the mean of its pixels' scores. `none` looks at no
    masks and leaves the patches' scores at the grid's resolution. `masks` is where masks come from; pixels in none keep
    what they had. `class_prior` multiplies each query's scores by the class token's logit for it, of the trained scale
    (released code, on VOC20 alone); without the bias of a
    sigmoid model, which would turn signs (our choice).
    """

    vote: Literal["majority", "mean", "none"] = "majority"
    masks: MaskSource = Dbscan()
    class_prior: bool = False

    def __post_init__(self) -> None:
        check_words(self)

    def __call__(self, encoding: Encoding, text: TextFeatures, size: tuple[int, int]) -> Scores:
        maps = Cosine()(encoding, text, size).maps
        if self.class_prior:
            maps = maps * (text.logit_scale * _class_cosines(encoding, text))[:, :, None, None]
        if self.vote == "none":
            return Scores(maps)
        regions = self.masks(encoding, size).to(maps.device)
        if self.vote == "mean":
            return Scores(mean_vote(F.interpolate(maps, size=size, mode="bilinear", align_corners=False), regions))
        classes = len(text.names)
        # Deviation: queries of one class, background words among them, count as that class before the vote.
        labels = majority_vote(pixel_labels(maps, text.owners.to(maps.device), size), regions, classes)
        return Scores(labels[:, None], by_class=True)


def _class_cosines(encoding: Encoding, text: TextFeatures) -> Tensor:
    """Cosine of the class token with each query: (B, Q)."""
    if encoding.class_token is None:
        raise ValueError(
            "`class_prior` needs the class token, which this backbone does not have; set `class_prior=false`."
        )
    unit = F.normalize(encoding.class_token.float(), dim=-1)
    return unit @ text.features.to(unit).mT
