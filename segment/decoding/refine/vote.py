"""One label a mask: each region of the image takes the label that most of its pixels have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diagnostics.images.content import file_content
from diagnostics.images.label_maps import LabelError, find_label, read_labels, shared_labels
from segment.decoding.mask_vote import majority_vote
from segment.decoding.refine.base import Canvas, Refiner

# In maps of 8 bits: pixels of no region. Source: PASCAL VOC's boundary, and diagnostics.images.label_maps.IGNORE.
NO_REGION = 255


def vote(labels: Tensor, regions: Tensor) -> Tensor:
    """Each region takes its most frequent label, of equally frequent ones the lowest: (H, W), (H, W) -> (H, W).

    `regions` tells them apart by whole numbers; pixels below 0 belong to none and keep their label. Labels below 0 have
    no vote and stay.
    """
    voting = (regions >= 0) & (labels >= 0)
    numbered = torch.full_like(regions, -1)
    numbered[voting] = regions[voting].unique(return_inverse=True)[1]
    voted = majority_vote(labels.clamp_min(0)[None], numbered[None], int(labels.max().clamp_min(0)) + 1)[0]
    return torch.where(voting, voted, labels)


def as_regions(masks: Tensor) -> Tensor:
    """Masks (M, H, W) bool that may overlap as one map of regions (H, W) int64, -1 where none lies.

    Where several do the smallest wins, as it says more (our choice).
    """
    regions = torch.full(masks.shape[1:], -1, dtype=torch.long, device=masks.device)
    areas = masks.flatten(1).sum(dim=1)
    for number in areas.argsort(descending=True, stable=True).tolist():
        regions[masks[number]] = number
    return regions


@dataclass(frozen=True, kw_only=True)
class Vote(Refiner):
    """Each given mask of an image takes the label that most of its pixels have; pixels without a mask keep theirs.

    Masks come from `folder`, a map of region numbers with each image's name (PNG, TIFF or BMP; 255 in maps of 8 bits
    means no region), or from `masks`, by the images' names: numbers (H, W), below 0 for no region, or bool (M, H, W).
    An image without masks raises ValueError. Confidence stays that of each pixel's own label.
    """

    folder: str = ""
    masks: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if bool(self.folder) == bool(self.masks):
            raise ValueError(
                "the refiner `vote` needs masks: a folder of maps of regions (vote:folder=regions), or in Python "
                "`masks`, by the images' names; and not both."
            )

    def content(self, image: Path) -> bytes:
        if not self.folder:
            return b""
        try:
            return file_content(find_label(image, self.folder))
        except LabelError:
            return b"none"  # reported when its turn comes

    def check(self, images: Sequence[Path]) -> None:
        shared = shared_labels(images, Path(self.folder)) if self.folder else {}
        for number, (regions, other) in shared.items():
            raise ValueError(
                f"`{images[number]}` and `{images[other]}` would share the masks {regions}. Put each one's into "
                f"sub-folders of {self.folder} that are named as the image's own."
            )

    def labels(self, labels: Tensor, canvas: Canvas) -> Tensor:
        regions = self._from_folder(canvas) if self.folder else self._from_masks(canvas)
        size = (canvas.image.height, canvas.image.width)
        if tuple(regions.shape) != size:
            raise ValueError(
                f"the masks of `{canvas.name}` should have its height and width {size}; got {tuple(regions.shape)}."
            )
        return vote(labels, regions.to(labels.device))

    def _from_folder(self, canvas: Canvas) -> Tensor:
        if canvas.path is None:
            raise ValueError(f"`{canvas.name}` is no file, so no masks can be found in `{self.folder}`. Give `masks`.")
        regions = read_labels(find_label(canvas.path, self.folder), expected_size=canvas.image.size)
        if regions.max() <= NO_REGION:
            regions = np.where(regions == NO_REGION, -1, regions)
        return torch.from_numpy(regions)

    def _from_masks(self, canvas: Canvas) -> Tensor:
        if canvas.name not in self.masks:
            known = ", ".join(list(self.masks)[:5])
            raise ValueError(f"`masks` has none for `{canvas.name}`; it has {known}. Name them as the run does.")
        mask = torch.from_numpy(np.asarray(self.masks[canvas.name]))
        if mask.dtype == torch.bool and mask.ndim == 3:
            return as_regions(mask)
        if mask.ndim != 2 or mask.is_floating_point() or mask.dtype == torch.bool:
            raise ValueError(
                f"the masks of `{canvas.name}` should be whole numbers (H, W) or bool (M, H, W); got {mask.dtype} of "
                f"{tuple(mask.shape)}."
            )
        return mask.long()
