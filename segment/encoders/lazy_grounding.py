"""SCLIP's features with masks cut from a second backbone's keys: LaVG."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.base import Detector
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from segment.encoders.correlation import image_of
from segment.encoders.kernels import Combine, KernelPositions
from segment.encoders.last_block import LastBlock
from segment.encoders.panoptic_cut import REMAINDER, panoptic_cut
from segment.encoders.second_backbone import DINO, FeatureTap, SecondBackbone, in_patches
from segment.method import LAST_BUT_ONE, Activations, Encoder, Encoding, Purification, TapSite, check_words


@dataclass(frozen=True, kw_only=True)
class LazyGrounding(Encoder):
    """Features of the last block, and masks that normalized cuts find among a second backbone's patches.

    `kernel` to `class_in_keys` as in `segment.encoders.last_block.LastBlock`, `vfm…` as in
    `segment.encoders.second_backbone.SecondBackbone`, `tau` to `stop_alike` as in `segment.encoders.panoptic_cut`.
    `cuts=0` leaves out the second backbone, for a scorer with masks of another source.

    Extras: `masks` (B, rows, cols) int64 over the padded image, -1 for the remainder, at about the resolution of the
    second grid; `image` (B, 3, h, w), RGB in [0, 1] with the padding, for other sources of masks; `outliers` (B, N).
    """

    kernel: str = "qq+kk"
    combine: Combine = "sum"
    kernel_positions: KernelPositions = "kept"  # our choice: q-q and k-k as attention itself compares them
    residual: bool = True
    ffn: bool = True
    class_in_keys: bool = True
    vfm: str = DINO
    vfm_layer: int = -1
    vfm_tap: FeatureTap = "key"
    vfm_size: int | None = 640
    vfm_positions: str | None = "bicubic-offset"  # DINO's own interpolation
    vfm_detector: Detector = LofRelease()
    vfm_purifier: Purifier = Keep()
    tau: float = 0.3
    cuts: int = 8
    stop_alike: bool = False
    detector: Detector = LofRelease()
    purifier: Purifier = Keep()

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, LAST_BUT_ONE)

    def __post_init__(self) -> None:
        check_words(self)
        if not 0 <= self.tau < 1:
            raise ValueError(f"`tau` should be a cosine in [0, 1), such as 0.3; got {self.tau}.")
        if self.cuts < 0:
            raise ValueError(f"`cuts` should be a number of cuts, 0 for none; got {self.cuts}.")
        _ = self.dense, self.second  # check their settings

    @property
    def dense(self) -> LastBlock:
        """The encoder of the features."""
        shared = {entry.name for entry in fields(LastBlock)} & {entry.name for entry in fields(self)}
        return LastBlock(**{name: getattr(self, name) for name in shared})

    @property
    def second(self) -> SecondBackbone:
        """The second backbone's settings as a part."""
        return SecondBackbone(
            spec=self.vfm,
            layer=self.vfm_layer,
            tap=self.vfm_tap,
            size=self.vfm_size,
            positions=self.vfm_positions,
            detector=self.vfm_detector,
            purifier=self.vfm_purifier,
        )

    def needs(self, depth: int) -> list[TapSite]:
        return [*self.dense.needs(depth), *(self.second.needs(depth) if self.cuts else [])]

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        reason = self.dense.unsupported_reason(backbone, layout)
        return reason or (
            self.second.unsupported_reason(layout, backbone.depth) if self.second.shared and self.cuts else None
        )

    def fitted(self, backbone: Backbone, images: Tensor) -> Self:
        fitted: Any = super().fitted(backbone, images)
        detector = self.second.fitted(backbone, images)
        return fitted if detector is self.vfm_detector else replace(fitted, vfm_detector=detector)

    def __call__(self, activations: Activations) -> Encoding:
        encoding = self.dense(activations)
        extras = encoding.extras | {"image": image_of(activations), "masks": self._masks(activations)}
        return replace(encoding, extras=extras)

    def _masks(self, activations: Activations) -> Tensor:
        """Masks over the padded image, at about the second grid's resolution: (B, rows, cols)."""
        if not self.cuts:
            size = len(activations.images), *activations.layout.grid
            return torch.full(size, REMAINDER, device=activations.backbone.device)  # images may lie elsewhere
        second = self.second.activations(activations)
        labels = panoptic_cut(
            self.second.features(second), second.layout.grid, tau=self.tau, cuts=self.cuts, stop_alike=self.stop_alike
        )
        return over_padded(second.layout.to_map(labels), second, activations)


def over_padded(maps: Tensor, second: Activations, first: Activations) -> Tensor:
    """A map on the second grid read over what the first one covers, by the nearest patch: (B, r, c) -> (B, rows, cols).

    The result has patches of the second's size, as nearly as whole numbers allow. Where both grids cover the same
    pixels, it is the map itself.
    """
    index = []
    for axis in (0, 1):
        covered = first.layout.grid[axis] * first.backbone.patch_size[axis]
        ratio = second.images.shape[axis - 2] / first.images.shape[axis - 2]
        before = (covered - first.images.shape[axis - 2]) // 2
        count = max(round(covered * ratio / second.backbone.patch_size[axis]), 1)
        places = ((torch.arange(count, dtype=torch.float64) + 0.5) * covered / count - before) * ratio
        index.append(places)
    rows, cols = in_patches(second, *index)
    rows, cols = (
        place.floor().long().clamp(0, side - 1).to(maps.device)
        for place, side in zip((rows, cols), second.layout.grid, strict=True)
    )
    return maps[:, rows][:, :, cols]
