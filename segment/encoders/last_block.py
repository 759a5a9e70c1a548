"""The last block with another attention kernel, with or without its residual and feed-forward network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from diagnostics.backbones.base import QKV, Backbone
from diagnostics.check_numbers import check_finite_number, check_not_negative
from diagnostics.detectors.base import Detector
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from segment.encoders.gaussian import distance_bias
from segment.encoders.kernels import Combine, KernelPositions, check_kernel, kernel_mix
from segment.encoders.purification import (
    purification_needs,
    purification_unsupported_reason,
    purified_tokens,
    recombination_unsupported_reason,
)
from segment.method import LAST_BUT_ONE, Activations, Encoder, Encoding, Purification, TapSite, check_words, encoding


@dataclass(frozen=True, kw_only=True)
class LastBlock(Encoder):
    """Blocks 1…L-1 as they are; block L recombined: tokens = [residual +] `alpha` · Proj(kernel · v) [+ FFN].

    `kernel`, `combine` and `kernel_positions` (its `positions`) as in segment.encoders.kernels. `class_in_keys` says
    whether patches attend to prefix tokens, too. `gaussian` is the standard deviation in patches of a Gaussian of the
    distance that is added to the logits (its peak is 1, prefix tokens get 0); 0 adds none. `gaussian_scale` is its
    factor: 1, or with `norms` the mean of ‖q‖·‖k‖/√d over all pairs of tokens and all heads of an image, the size that
    logits have (NACLIP's `nonly` strategy, together with kernel `none`). `alpha` scales attention's output against the
    residual (ClearCLIP, Fig 6). `detector` and `purifier` purify the patches that enter the block, by what layer L-1
    shows.
    """

    kernel: str = "qk"
    combine: Combine = "sum"
    kernel_positions: KernelPositions = "kept"  # our choice: q-q and k-k as attention itself compares them
    residual: bool = True
    ffn: bool = True
    class_in_keys: bool = True
    gaussian: float = 0.0
    gaussian_scale: Literal["one", "norms"] = "one"
    alpha: float = 1.0
    detector: Detector = LofRelease()
    purifier: Purifier = Keep()

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, LAST_BUT_ONE)

    def __post_init__(self) -> None:
        check_words(self)
        check_kernel(self.kernel, self.combine)
        check_not_negative("gaussian", self.gaussian, hint="a standard deviation in patches, or 0 for none")
        check_finite_number("alpha", self.alpha)

    def needs(self, depth: int) -> list[TapSite]:
        return purification_needs(self.detector, self.purifier, -2)

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        return recombination_unsupported_reason(backbone) or purification_unsupported_reason(
            self.detector, self.purifier, layout, backbone.depth - 1
        )

    def __call__(self, activations: Activations) -> Encoding:
        block = activations.blocks[-1]
        tokens, mask = purified_tokens(activations, self.detector, self.purifier, -2)
        heads = activations.heads(-1) if tokens is activations.tokens(-2) else block.qkv(tokens)
        skip = 0 if self.class_in_keys else activations.layout.prefix
        bias = self._bias(activations.layout, heads)[..., skip:] if self.gaussian else None
        mixed = kernel_mix(
            heads,
            self.kernel,
            self.combine,
            positions=self.kernel_positions,
            bias=bias,
            skip=skip,
            prefix=activations.layout.prefix,
        )
        result = self.alpha * block.merge_heads(mixed, heads.normed)
        if self.residual:
            result = tokens + result
        if self.ffn:
            result = result + block.ffn(result, tokens)
        return encoding(activations, result, extras={"outliers": mask})

    def _bias(self, layout: Layout, heads: QKV) -> Tensor:
        """What is added to the logits: (T, T), or (B, 1, T, T) with a factor of each image."""
        bias = distance_bias(layout, self.gaussian, device=heads.q.device)
        return bias if self.gaussian_scale == "one" else bias * mean_logit_size(heads)


def mean_logit_size(heads: QKV) -> Tensor:
    """Mean of ‖q‖·‖k‖/√d over all pairs of tokens and all heads, prefix included: (B, 1, 1, 1), at least 0.

    Source: sinahmr/NACLIP 0cac3a6, strategy `nonly`.
    """
    # The mean over pairs is the product of the means.
    q, k = (part.float().norm(dim=-1).mean(dim=-1) for part in (heads.q, heads.k))
    return (q * k).mean(dim=-1)[:, None, None, None] * heads.q.shape[-1] ** -0.5
