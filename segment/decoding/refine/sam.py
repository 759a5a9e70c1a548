"""SAM over the whole image, shown points of each class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from diagnostics.images import to_tensor
from diagnostics.images.label_maps import resize_labels
from diagnostics.layout import Grid
from segment.decoding.masks.sam import TransformersSam, regions_by_points
from segment.decoding.refine.base import Canvas, Refiner


@dataclass(frozen=True, kw_only=True)
class SamRefiner(Refiner):
    """Labels follow the outlines that SAM finds: a grid of points, each class's own inside, those of others outside.

    `points` is how many there are along the longer side. Each pixel takes the class whose mask is surest there; pixels
    in no mask keep their label. `model` is a SAM on the Hugging Face hub, `org/name` or `org/name@REVISION`, or a
    folder with one; needs the library transformers. The way to prompt is CLIPtrase's for its clusters (Shao et al.,
    ECCV 2024, §5.3); with the final labels of a whole image in place of clusters, it is our choice. Confidence stays
    that of each pixel's own label.
    """

    model: str = "facebook/sam-vit-base"  # our choice
    points: int = 16  # our choice

    def __post_init__(self) -> None:
        if self.points < 1:
            raise ValueError(f"`points` of the refiner `sam` should be at least 1 a side; got {self.points}.")

    def labels(self, labels: Tensor, canvas: Canvas) -> Tensor:
        size = (labels.shape[0], labels.shape[1])
        grid = Grid(*(max(1, round(self.points * side / max(size))) for side in size))
        coarse = torch.from_numpy(resize_labels(labels.cpu().numpy(), *grid)).flatten()
        classes, clusters = coarse[coarse >= 0].unique(return_inverse=True)
        if not len(classes):
            return labels
        shown = torch.full_like(coarse, -1)
        shown[coarse >= 0] = clusters
        image = to_tensor(canvas.image).to(labels.device)
        regions = regions_by_points(image, shown, grid, _loaded(self.model, str(labels.device)), size)
        labels_of_regions = classes.to(labels.device)[regions.clamp_min(0)]
        return torch.where((regions >= 0) & (labels >= 0), labels_of_regions, labels)


@lru_cache(maxsize=1)
def _loaded(model: str, device: str) -> TransformersSam:
    return TransformersSam(model, device)
