"""Self-self attention of middle layers averaged with the last one's, over several views of an image: ITACLIP."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from diagnostics.backbones.base import QKV, Backbone
from diagnostics.detectors.base import Detector
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.layout import Layout, pad_to_patches
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from diagnostics.taps import Recorder
from segment.encoders.kernels import KernelPositions, kernel_mix
from segment.encoders.purification import (
    purification_needs,
    purification_unsupported_reason,
    purified_tokens,
    recombination_unsupported_reason,
)
from segment.method import (
    LAST_BUT_ONE,
    Activations,
    Encoder,
    Encoding,
    Purification,
    TapSite,
    check_words,
    encoding,
)

View = Literal["gray", "blur", "vertical", "horizontal"]

# m-arda-aydn/ITACLIP 521a33c.
BLUR_SIZE, BLUR_SPREAD = 11, 5.0
FLIPS = {"vertical": 1, "horizontal": 2}


@dataclass(frozen=True, kw_only=True)
class MiddleAttention(Encoder):
    """Blocks 1…L-1 as they are; block L: tokens + Proj(A·v), A = ½·A_L + ½·mean of A_l over `layers`, no FFN.

    A_l = softmax(q·qᵀ/√d) + softmax(k·kᵀ/√d) of block l on the stock tokens, head by head; rows add to 2. `residual`
    and `ffn` change what is kept; `middle` is the share of the middle layers.

    `views`, if any, are looked at besides the image, each by a forward pass of its own: `gray` and `blur` (of the
    *normalized* image, 11 pixels wide, σ 5), whose unit features are averaged with the image's; flips, `vertical` and
    `horizontal`, whose unit features are turned back, averaged, and weighed 1 - `first_share`. With views the features
    are these means of unit vectors, in the extra `weighted` (B, N, E) as well: the release does not bring them to unit
    length again, so products with words, not cosines, are its scores (segment.scorers.products).

    `detector` and `purifier` purify the patches that enter the block, by what layer L-1 shows.
    Source: Aydın et al., ITACLIP, CVPRW 2025, arXiv:2411.12044; m-arda-aydn/ITACLIP 521a33c.
    """

    layers: tuple[int, ...] = (7, 8, 10)
    middle: float = 0.5
    kernel_positions: KernelPositions = "kept"  # our choice, as in `LastBlock`
    residual: bool = True
    ffn: bool = False
    views: tuple[View, ...] | None = None
    first_share: float = 0.75
    detector: Detector = LofRelease()
    purifier: Purifier = Keep()

    def __post_init__(self) -> None:
        check_words(self)
        if not self.layers or min(self.layers) < 1:
            raise ValueError(f"`layers` should be numbers of blocks from 1 on, such as 7+8+10; got {self.layers}.")
        for name in ("middle", "first_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` should be a share from 0 to 1; got {getattr(self, name)}.")
        views = self.views or ()
        if any(view not in ("gray", "blur", *FLIPS) for view in views) or len(set(views)) < len(views):
            raise ValueError(
                "`views` should be some of gray, blur, vertical and horizontal, each once, such as gray+blur; got "
                f"{'+'.join(views)}."
            )

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, LAST_BUT_ONE)

    def needs(self, depth: int) -> list[TapSite]:
        places = purification_needs(self.detector, self.purifier, -2)
        return [*places, *(("block_out", layer - 1) for layer in self.layers)]

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        if reason := recombination_unsupported_reason(backbone):
            return reason
        if max(self.layers) > backbone.depth:
            return (
                f"it averages the attention of layers {', '.join(map(str, self.layers))}, and the model has "
                f"{backbone.depth} blocks. Name layers that it has: layers=3+4+5"
            )
        return purification_unsupported_reason(self.detector, self.purifier, layout, backbone.depth - 1)

    def __call__(self, activations: Activations) -> Encoding:
        first = self._one_view(activations)
        if not self.views:
            return first
        alike = [F.normalize(first.patches.float(), dim=-1)]
        turned: list[Tensor] = []
        for view, images in self._views(activations):
            other = F.normalize(self._one_view(self._stock(activations, images)).patches.float(), dim=-1)
            if view in FLIPS:
                maps = activations.layout.to_map(other).flip(FLIPS[view])
                turned.append(activations.layout.to_patches(maps))
            else:
                alike.append(other)
        weighted = torch.stack(alike).mean(dim=0)
        if turned:
            weighted = self.first_share * weighted + (1 - self.first_share) * torch.stack(turned).mean(dim=0)
        extras = {**first.extras, "weighted": weighted}
        return replace(first, patches=weighted.to(first.patches.dtype), extras=extras)

    def _one_view(self, activations: Activations) -> Encoding:
        block = activations.blocks[-1]
        tokens, mask = purified_tokens(activations, self.detector, self.purifier, -2)
        heads = activations.heads(-1) if tokens is activations.tokens(-2) else block.qkv(tokens)
        mixed = (1 - self.middle) * self._mixed(heads, heads.v)
        for layer in self.layers:
            middle = heads if layer == activations.depth else activations.heads(layer)
            mixed = mixed + self.middle / len(self.layers) * self._mixed(middle, heads.v)
        result = block.merge_heads(mixed, heads.normed)
        if self.residual:
            result = tokens + result
        if self.ffn:
            result = result + block.ffn(result, tokens)
        return encoding(activations, result, extras={"outliers": mask})

    def _mixed(self, heads: QKV, values: Tensor) -> Tensor:
        return kernel_mix(heads, "qq+kk", positions=self.kernel_positions, values=values)

    def _views(self, activations: Activations) -> Iterable[tuple[View, Tensor]]:
        """The normalized images as each view has them, padded to whole patches before they are flipped."""
        images = pad_to_patches(activations.images, activations.backbone.patch_size)
        for view in self.views or ():
            if view == "gray":
                yield view, transforms.rgb_to_grayscale(images, num_output_channels=3)
            elif view == "blur":
                yield view, transforms.gaussian_blur(images, [BLUR_SIZE] * 2, [BLUR_SPREAD] * 2)
            else:
                yield view, images.flip(FLIPS[view] + 1)

    def _stock(self, activations: Activations, images: Tensor) -> Activations:
        """The stock pass over a view."""
        backbone, depth = activations.backbone, activations.depth
        places = [(tap, layer if layer >= 0 else depth + 1 + layer) for tap, layer in self.needs(depth)]
        recorder = Recorder(*{tap for tap, _ in places}, layers=sorted({layer for _, layer in places}))
        backbone.trunk(images, stop=-2, tap=recorder, positions=activations.positions)
        return Activations(backbone, images, activations.layout, recorder.recording, positions=activations.positions)
