"""The last block with its keys turned towards its queries: PEARL's features."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostics.backbones.base import Backbone
from diagnostics.check_numbers import check_iterations, check_not_negative
from diagnostics.detectors.base import Detector
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from segment.encoders.alignment import ALPHA, STEPS, Rotation, aligned_mix
from segment.encoders.kernels import KernelPositions
from segment.encoders.purification import (
    purification_needs,
    purification_unsupported_reason,
    purified_tokens,
    recombination_unsupported_reason,
)
from segment.method import LAST_BUT_ONE, Activations, Encoder, Encoding, Purification, TapSite, check_words, encoding


@dataclass(frozen=True, kw_only=True)
class AlignedKeys(Encoder):
    """Blocks 1…L-1 as they are; block L by softmax((q·(k R)ᵀ + `alpha`·K·Kᵀ)/√d) · v, prefix tokens among the keys.

    `rotation` and `steps`: how R is made, see segment.encoders.alignment; `alpha`: what the centered keys' likeness to
    each other counts, 0 leaves it out; `kernel_positions` as in segment.encoders.kernels. `residual` and `ffn` bring
    back what the release leaves out. `detector` and `purifier` purify the patches that enter the block, by what layer
    L-1 shows.
    Source: Pei et al., PEARL, CVPR 2026; PGSmall/PEARL c26062b.
    """

    alpha: float = ALPHA
    rotation: Rotation = "polar"
    steps: int = STEPS
    kernel_positions: KernelPositions = "kept"  # our choice, as in `LastBlock`
    residual: bool = False
    ffn: bool = False
    detector: Detector = LofRelease()
    purifier: Purifier = Keep()

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, LAST_BUT_ONE)

    def __post_init__(self) -> None:
        check_words(self)
        check_not_negative("alpha", self.alpha, hint="in the release 0.08, or 0.3 on ADE20K and Cityscapes")
        check_iterations("steps", self.steps, hint="in the release 5")

    def needs(self, depth: int) -> list[TapSite]:
        return purification_needs(self.detector, self.purifier, -2)

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        if reason := recombination_unsupported_reason(backbone):
            return reason
        return purification_unsupported_reason(self.detector, self.purifier, layout, backbone.depth - 1)

    def __call__(self, activations: Activations) -> Encoding:
        block = activations.blocks[-1]
        tokens, mask = purified_tokens(activations, self.detector, self.purifier, -2)
        heads = activations.heads(-1) if tokens is activations.tokens(-2) else block.qkv(tokens)
        source = heads if self.kernel_positions == "kept" else heads.without_positions()
        mixed = aligned_mix(
            source, activations.layout.prefix, alpha=self.alpha, rotation=self.rotation, steps=self.steps
        )
        result = block.merge_heads(mixed, heads.normed)
        if self.residual:
            result = tokens + result
        if self.ffn:
            result = result + block.ffn(result, tokens)
        return encoding(activations, result, extras={"outliers": mask})
