"""The last block's values mixed by what a second backbone finds alike: ProxyCLIP."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import Backbone, join_heads, split_heads
from diagnostics.check_numbers import check_finite_number, check_not_negative
from diagnostics.detectors.base import Detector
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.layout import Layout, padding_to_patches
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from segment.encoders.fusion import masked_softmax_rows
from segment.encoders.purification import (
    purification_needs,
    purification_unsupported_reason,
    purified_tokens,
    recombination_unsupported_reason,
)
from segment.encoders.second_backbone import DINO, FeatureTap, SecondBackbone, onto_grid
from segment.method import LAST_BUT_ONE, Activations, Encoder, Encoding, Purification, TapSite

# Entries of the attention matrix that are made at once, over all images: 256 MB in fp32. Our choice.
ENTRIES = 2**26


def proxy_mix(features: Tensor, values: Tensor, *, beta: float, gamma: float) -> Tensor:
    """Values mixed by the similarity of features: (B, M, D'), (B, M, D) -> (B, M, D).

    S = cos(z, z); A is `segment.encoders.fusion.masked_softmax` of S with β = `beta` as shift and γ = `gamma` as scale;
    A·v. The matrix is made in fp32, some rows at a time. A patch whose row has nothing left keeps its value.
    Source: ProxyCLIP, mc-lan/ProxyCLIP e7b767f.
    """
    unit = F.normalize(features.float(), dim=-1)
    batch, count = unit.shape[:2]
    # The mean over all pairs is the squared length of the mean vector.
    mean = unit.mean(dim=1).square().sum(dim=-1)[:, None, None]
    mixed = []
    for rows in torch.arange(count, device=unit.device).split(max(ENTRIES // (batch * count), 1)):
        weights = masked_softmax_rows(unit[:, rows] @ unit.mT, rows, mean, shift=beta, scale=gamma)
        mixed.append(weights.to(values.dtype) @ values)
    return torch.cat(mixed, dim=1)


@dataclass(frozen=True, kw_only=True)
class Proxy(Encoder):
    """Blocks 1…L-1 as they are; block L gives Proj(A·v) on the second backbone's grid, no residual, no FFN.

    A, one for all heads, is the similarity of the second backbone's patches (`proxy_mix`, with `beta` and `gamma`); v
    are the patches' values, read bilinearly at the second grid's centers; prefix tokens are left out. Both backbones
    see the same image, each padded to its own patches. The `vfm_…` settings are those of
    `segment.encoders.second_backbone.SecondBackbone`; `vfm=self` needs no second model. `detector` and `purifier`
    purify the first backbone's patches that enter block L; `extras["outliers"]` (B, M) says where values come from
    purified ones.
    """

    beta: float = 1.2
    gamma: float = 3.0
    vfm: str = DINO
    vfm_layer: int = -1
    vfm_tap: FeatureTap = "out"
    vfm_positions: str | None = "bicubic-offset"  # DINO's own interpolation
    vfm_detector: Detector = LofRelease()
    vfm_purifier: Purifier = Keep()
    detector: Detector = LofRelease()
    purifier: Purifier = Keep()

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, LAST_BUT_ONE)

    def __post_init__(self) -> None:
        check_finite_number("beta", self.beta)
        check_not_negative("gamma", self.gamma, hint="where 0 attends to all patches alike")
        _ = self.second  # checks its settings

    @property
    def second(self) -> SecondBackbone:
        """The second backbone's settings as a part."""
        return SecondBackbone(
            spec=self.vfm,
            layer=self.vfm_layer,
            tap=self.vfm_tap,
            positions=self.vfm_positions,
            detector=self.vfm_detector,
            purifier=self.vfm_purifier,
        )

    def needs(self, depth: int) -> list[TapSite]:
        return [*purification_needs(self.detector, self.purifier, -2), *self.second.needs(depth)]

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        reason = recombination_unsupported_reason(backbone) or purification_unsupported_reason(
            self.detector, self.purifier, layout, backbone.depth - 1
        )
        return reason or (self.second.unsupported_reason(layout, backbone.depth) if self.second.shared else None)

    def fitted(self, backbone: Backbone, images: Tensor) -> Self:
        fitted: Any = super().fitted(backbone, images)
        detector = self.second.fitted(backbone, images)
        return fitted if detector is self.vfm_detector else replace(fitted, vfm_detector=detector)

    def __call__(self, activations: Activations) -> Encoding:
        backbone, block = activations.backbone, activations.blocks[-1]
        tokens, mask = purified_tokens(activations, self.detector, self.purifier, -2)
        heads = activations.heads(-1) if tokens is activations.tokens(-2) else block.qkv(tokens)
        second = self.second.activations(activations)
        # Deviation: the released code pads the window for both models to a multiple of 56 and takes both sides of the
        # grid from its height; here each model pads to its own patches, and places are matched in pixels.
        values = onto_grid(activations.layout.patches(join_heads(heads.v)), activations, second)
        normed = onto_grid(activations.layout.patches(heads.normed), activations, second)
        mixed = proxy_mix(self.second.features(second), values, beta=self.beta, gamma=self.gamma)
        purified = onto_grid(mask[..., None].float(), activations, second)[..., 0] > 0.5
        height, width = activations.images.shape[-2:]
        return Encoding(
            patches=backbone.project(block.merge_heads(split_heads(mixed, block.heads), normed)),
            class_token=None,
            layout=Layout(0, second.layout.grid, None),
            padding=padding_to_patches((height, width), second.backbone.patch_size),
            extras={"outliers": purified},
        )
