"""Attention of middle layers mixed into the last one's, and the words' own layout fed back: ResCLIP's features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import QKV, Backbone, attend, attention_weights
from diagnostics.check_numbers import check_finite_number, check_positive
from diagnostics.detectors.base import Detector
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.layout import Layout, pad_to_patches
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from segment.decoding.refine.pamr import pamr
from segment.encoders.feedback import feedback_map, patch_labels
from segment.encoders.gaussian import distance_bias
from segment.encoders.kernels import KernelPositions
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
    TextFeatures,
    check_words,
    encoding,
)

# What scores are multiplied by before the softmax that the feedback's threshold is for. Source: yvhangyang/ResCLIP
# 0e085f7; and how its PAMR is set.
FEEDBACK_SCALE = 40.0
PAMR_STEPS, PAMR_DILATIONS = 10, (8, 16)


@dataclass(frozen=True, kw_only=True)
class ResidualCorrelation(Encoder):
    """Blocks 1…L-1 as they are; block L without residual and FFN: Proj(`tau` · [(1 - `share`)·A + `share`·C] · v).

    C is the mean of the stock attention of the layers `cross_from`…`cross_to`, head by head. A is softmax(k·kᵀ/√d + ω),
    ω the Gaussian of the distance with standard deviation `gaussian` (NACLIP's). With `feedback`, these features are
    labeled by the words first (PAMR in the window, the best query of each pixel, query 0 where its probability is
    below `feedback_threshold`, the most frequent in each patch), and A becomes
    softmax(`feedback_tau`·[(1 - `feedback_share`)·k·kᵀ/√d + `feedback_share`·F] + ω), F the feedback map
    (segment.encoders.feedback). So it reads words (`activations.text`), unless feedback=false.

    `detector` and `purifier` purify the patches that enter the block, by what layer L-1 shows. Extras: `outliers`
    (B, N); with feedback `feedback` (B, N, N), F before its division by its maximum, and `feedback_labels`
    (B, rows, cols).
    Source: Yang et al., ResCLIP, CVPR 2025, arXiv:2411.15851; yvhangyang/ResCLIP 0e085f7.
    """

    without_words: ClassVar[str] = "feedback=false"

    # ResCLIP 0e085f7, its configuration for COCO-Stuff and COCO-Object, which most of the others are near to.
    tau: float = 2.0
    share: float = 0.4
    cross_from: int = 6
    cross_to: int = 9
    gaussian: float = 5.0
    kernel_positions: KernelPositions = "kept"  # our choice, as in `LastBlock`
    feedback: bool = True
    feedback_tau: float = 1.8
    feedback_share: float = 0.7
    feedback_threshold: float = 0.11
    half: bool = True  # the release has F, and its product with the share, in half precision
    detector: Detector = LofRelease()
    purifier: Purifier = Keep()

    def __post_init__(self) -> None:
        check_words(self)
        check_positive("gaussian", self.gaussian, hint="a standard deviation in patches, such as 5")
        for name in ("tau", "feedback_tau"):
            check_finite_number(name, getattr(self, name))
        for name in ("share", "feedback_share", "feedback_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` should be a share from 0 to 1; got {getattr(self, name)}.")
        if not 1 <= self.cross_from <= self.cross_to:
            raise ValueError(
                "`cross_from` and `cross_to` should be layers from 1 on, in this order; got "
                f"{self.cross_from} and {self.cross_to}."
            )

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, LAST_BUT_ONE)

    @property
    def reads_words(self) -> bool:
        return self.feedback

    def needs(self, depth: int) -> list[TapSite]:
        places = purification_needs(self.detector, self.purifier, -2)
        return [*places, *(("block_out", layer - 1) for layer in range(self.cross_from, self.cross_to + 1))]

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        if reason := recombination_unsupported_reason(backbone):
            return reason
        if self.cross_to > backbone.depth:
            return (
                f"it averages the attention of layers {self.cross_from}…{self.cross_to}, and the model has "
                f"{backbone.depth} blocks. Set cross_from and cross_to to layers that it has"
            )
        return purification_unsupported_reason(self.detector, self.purifier, layout, backbone.depth - 1)

    def __call__(self, activations: Activations) -> Encoding:
        layout, block = activations.layout, activations.blocks[-1]
        tokens, mask = purified_tokens(activations, self.detector, self.purifier, -2)
        heads = activations.heads(-1) if tokens is activations.tokens(-2) else block.qkv(tokens)
        crossed = self._cross_attention(activations).to(heads.v.dtype) @ heads.v
        source = heads if self.kernel_positions == "kept" else heads.without_positions()
        bias = distance_bias(layout, self.gaussian, device=heads.v.device).to(heads.v.dtype)
        bias = bias if source.bias is None else bias + source.bias
        self_attended = attend(source.k, source.k, heads.v, bias)
        extras = {"outliers": mask}
        result = encoding(activations, self._joined(activations, heads, self_attended, crossed), extras=extras)
        if not self.feedback or activations.text is None:
            return result
        labels = self._labels(activations, result, activations.text)
        maps = feedback_map(labels)
        fed = torch.zeros(len(maps), 1, layout.tokens, layout.tokens, device=maps.device)
        scaled = maps / maps.amax(dim=(1, 2), keepdim=True)
        shared = (self.feedback_share * scaled.half()).float() if self.half else self.feedback_share * scaled
        fed[:, 0, layout.prefix :, layout.prefix :] = shared
        logits = (self.feedback_tau * fed).to(bias) + bias
        scale = self.feedback_tau * (1 - self.feedback_share) * heads.k.shape[-1] ** -0.5
        self_attended = attend(source.k, source.k, heads.v, logits, scale=scale)
        extras = {**extras, "feedback": maps, "feedback_labels": labels}
        return encoding(activations, self._joined(activations, heads, self_attended, crossed), extras=extras)

    def _joined(self, activations: Activations, heads: QKV, self_attended: Tensor, crossed: Tensor) -> Tensor:
        mixed = self.tau * ((1 - self.share) * self_attended + self.share * crossed)
        return activations.blocks[-1].merge_heads(mixed, heads.normed)

    def _cross_attention(self, activations: Activations) -> Tensor:
        """Mean over layers of the stock attention: (B, H, T, T)."""
        layers = range(self.cross_from, self.cross_to + 1)
        total: Tensor | None = None
        for layer in layers:
            heads = activations.heads(layer)
            weights = attention_weights(heads.q, heads.k, heads.bias)
            total = weights if total is None else total + weights
        assert total is not None  # there is at least one layer
        return total / len(layers)

    def _labels(self, activations: Activations, result: Encoding, text: TextFeatures) -> Tensor:
        """The query of each patch: (B, rows, cols) int64."""
        backbone = activations.backbone
        images = pad_to_patches(activations.images.to(backbone.device).float(), backbone.patch_size)
        cosines = F.normalize(result.patches.float(), dim=-1) @ text.features.to(result.patches.device).float().mT
        maps = result.layout.to_map(cosines).permute(0, 3, 1, 2)
        maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)
        smooth = pamr(images, maps, iterations=PAMR_STEPS, dilations=PAMR_DILATIONS)
        sure, pixels = (FEEDBACK_SCALE * smooth).softmax(dim=1).max(dim=1)
        pixels = pixels.masked_fill(sure < self.feedback_threshold, 0)
        return patch_labels(pixels, backbone.patch_size, len(text.owners))
