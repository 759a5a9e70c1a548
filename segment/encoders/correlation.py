"""CLIPtrase's features: semantic correlation recovered in one block, and the patches' correlations to cluster by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import QKV, Backbone, join_heads
from diagnostics.detectors.base import Detector
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.images import denormalize
from diagnostics.layout import Layout, pad_to_patches
from diagnostics.memory import FLOAT
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from diagnostics.taps import resolve_layer
from segment.encoders.kernels import KernelPositions, kernel_mix
from segment.encoders.purification import (
    purification_needs,
    purification_unsupported_reason,
    purified_tokens,
    recombination_unsupported_reason,
)
from segment.method import Activations, Encoder, Encoding, Purification, TapSite, check_words, encoding

Similarity = Literal["cosine", "inner-product"]
Joining = Literal["heads", "concatenated"]
Reach = Literal["image", "class"]

STREAMS = ("query", "key", "value")

# What single precision may leave above 0 in a mean of cosines less 1; equal vectors leave about 1e-7.
ROUNDING = 1e-5


def correlation_map(
    streams: Sequence[Tensor], *, similarity: Similarity = "cosine", joining: Joining = "heads"
) -> Tensor:
    """How alike tokens are in their queries, keys and values, in fp32: streams of (B, H, T, d) -> (B, T, T).

    The mean over the streams of one matrix each. `joining="heads"`: that matrix is the mean of the heads' own (Eq 3);
    `concatenated`: the heads' vectors are one long vector (Eq 12-14). `cosine` lies in [-1, 1], a token with itself has
    1, and a zero vector 0 with all. `inner-product` is x·xᵀ/√(width of x), without bounds; the root is our choice, as
    in attention. Source: CLIPtrase (Shao et al., ECCV 2024).
    """
    if joining == "concatenated":
        streams = [join_heads(stream)[:, None] for stream in streams]
    heads, width = streams[0].shape[1], streams[0].shape[3]
    # The sum over streams and heads of all products is one product of all their vectors in a row.
    rows = [stream.float() for stream in streams]
    if similarity == "cosine":
        rows = [F.normalize(stream, dim=-1) for stream in rows]
    else:
        rows = [stream * width**-0.25 for stream in rows]
    joined = torch.cat([join_heads(stream) for stream in rows], dim=-1)
    return joined @ joined.mT / (len(streams) * heads)


def above_class_row(correlation: Tensor, layout: Layout) -> Tensor:
    """What patches have in common beyond what the class token has with them: (B, T, T) -> (B, N, N), at least 0.

    max(0, w_ij - w_cj) for patches i, j and the class token c. Source: leaves162/CLIPtrase 2b7de61.
    """
    patches = layout.patches(layout.patches(correlation), dim=2)
    of_class = layout.patches(layout.class_token(correlation))
    return (patches - of_class[:, None]).clamp_min(0)


def within_classes(correlation: Tensor, labels: Tensor, layout: Layout) -> Tensor:
    """The correlations with 0 where two patches have different true labels: (B, T, T), (B, N) -> (B, T, T).

    A prefix token is in no region of the image: patches have 0 with it, and its own row stays. Source: CLIPtrase,
    supplement, Table 4, «attention within ground truth regions»; what becomes of the prefix is our choice.
    """
    is_allowed = torch.ones(correlation.shape, dtype=torch.bool, device=correlation.device)
    rows = layout.patches(is_allowed)  # a view
    layout.prefix_tokens(rows, dim=2).fill_(False)
    layout.patches(rows, dim=2).copy_(labels[:, :, None] == labels[:, None, :])
    return correlation * is_allowed


def own_excess(affinity: Tensor) -> Tensor:
    """w*_i = mean_j w_ij - w_ii of each patch: (B, N, N) -> (B, N). Source: CLIPtrase, Eq 7, which keeps w*_i <= 0."""
    return affinity.mean(dim=2) - affinity.diagonal(dim1=1, dim2=2)


@dataclass(frozen=True, kw_only=True)
class Correlation(Encoder):
    """Block `recover_at` recombined, tokens = [residual +] Proj(weights · v) [+ FFN]; the blocks after it as they are.

    `weights="softmax"` adds the three softmaxes of q-q, k-k and v-v in each head (released code);
    `correlation` takes `correlation_map` of the block, one for all heads, its rows not normalized (Eq 3). Tokens of the
    prefix take part. `kernel_positions` is `positions` of segment.encoders.kernels, for softmaxes and correlations
    alike: `dropped` takes queries and keys before a rotary rotation, without a relative bias; correlations never have
    the bias. `similarity` and `joining` are those of `correlation_map`. `within="class"` keeps the weights between
    patches of one true label, as `within_classes` has it: an upper bound that needs the truth.

    Extras: `affinity` (B, N, N), the correlations of `affinity_layer` to cluster by; `kept` (B, N), which patches may
    be clustered; `image` (B, 3, h, w), RGB in [0, 1] with the padding, for masks of another model; `outliers` (B, N);
    with `raw_maps` also `correlation` (B, T, T), before denoising. `denoise="class-row"` subtracts the class token's
    row (released code); `self` keeps the patches that are no less like themselves than like the rest (Eq 7: **with
    cosines that is every patch**); `none` leaves all as it is. The affinity is of the stock forward, except at
    `recover_at`, where it is of the tokens that enter the block. `detector` and `purifier` purify these, by what the
    layer before shows.
    """

    weights: Literal["softmax", "correlation"] = "softmax"
    similarity: Similarity = "cosine"
    joining: Joining = "heads"
    within: Reach = "image"
    kernel_positions: KernelPositions = "kept"  # our choice: q-q and k-k as attention itself compares them
    recover_at: int = -1  # CLIPtrase, §4.1 and Table 2
    affinity_layer: int = -2  # leaves162/CLIPtrase 2b7de61: layer 11 of 12
    denoise: Literal["class-row", "self", "none"] = "class-row"
    residual: bool = True
    ffn: bool = True
    raw_maps: bool = False
    detector: Detector = LofRelease()
    purifier: Purifier = Keep()

    @property
    def uses_labels(self) -> bool:
        return self.within == "class"

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, self.purify_at_layer)

    def __post_init__(self) -> None:
        check_words(self)
        for name in ("recover_at", "affinity_layer"):
            if getattr(self, name) == 0:
                raise ValueError(f"`{name}` should be a block, 1…L or -1 for the last; got 0, the embedding.")

    @property
    def purify_at_layer(self) -> int:
        """The layer whose output is looked at and purified: the one before `recover_at`."""
        return self.recover_at - 1

    def needs(self, depth: int) -> list[TapSite]:
        places = purification_needs(self.detector, self.purifier, self.purify_at_layer)
        if not self._same_layer(depth):
            places += [(name, self.affinity_layer) for name in self._streams]
        return places

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """How alike all pairs of tokens are."""
        return FLOAT * layout.tokens**2

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        if reason := recombination_unsupported_reason(backbone):
            return reason
        for name in ("recover_at", "affinity_layer"):
            layer = getattr(self, name)
            if not -backbone.depth <= layer <= backbone.depth:
                return f"`{name}` is {layer}, but its blocks are 1…{backbone.depth}"
        if self.within == "class" and self.weights == "softmax":
            return "`within=class` cuts correlations, and a softmax spreads over all tokens; set `weights=correlation`"
        if self.denoise == "class-row" and not layout.has_class_token:
            return "it has no class token, whose row `denoise=class-row` subtracts; set `denoise=none`"
        if not isinstance(self.purifier, Keep) and resolve_layer(self.purify_at_layer, backbone.depth) == 0:
            return "block 1 has no layer before it to find outliers in; set `purifier=keep`, or a later `recover_at`"
        return purification_unsupported_reason(self.detector, self.purifier, layout)

    def __call__(self, activations: Activations) -> Encoding:
        layer = resolve_layer(self.recover_at, activations.depth)
        block = activations.blocks[layer - 1]
        tokens, mask = purified_tokens(activations, self.detector, self.purifier, self.purify_at_layer)
        purified = tokens is not activations.tokens(self.purify_at_layer)
        heads = block.qkv(tokens) if purified else activations.heads(self.recover_at)
        if self.weights == "correlation":
            weights = self._map(heads)
            if self.within == "class":
                if activations.labels is None:
                    raise ValueError("`within=class` needs the true labels of patches, `Activations.labels`.")
                weights = within_classes(weights, activations.labels, activations.layout)
            tokens_out = block.mix(weights[:, None], heads)
        else:
            mixed = kernel_mix(heads, "qq+kk+vv", "sum", positions=self.kernel_positions)
            tokens_out = block.merge_heads(mixed, heads.normed)
        if self.residual:
            tokens_out = tokens + tokens_out
        if self.ffn:
            tokens_out = tokens_out + block.ffn(tokens_out, tokens)
        if layer < activations.depth:
            tokens_out = activations.backbone.run(tokens_out, start=layer + 1, layout=activations.layout)
        correlation = self._map(heads if self._same_layer(activations.depth) else self._recorded(activations))
        return encoding(activations, tokens_out, extras=self._extras(activations, correlation) | {"outliers": mask})

    def _same_layer(self, depth: int) -> bool:
        return resolve_layer(self.recover_at, depth) == resolve_layer(self.affinity_layer, depth)

    @property
    def _streams(self) -> tuple[str, ...]:
        return STREAMS if self.kernel_positions == "kept" else ("query_unrotated", "key_unrotated", "value")

    def _recorded(self, activations: Activations) -> list[Tensor]:
        return [activations.recording[name, self.affinity_layer] for name in self._streams]

    def _map(self, heads: QKV | Sequence[Tensor]) -> Tensor:
        if isinstance(heads, QKV) and self.kernel_positions == "dropped":
            heads = heads.without_positions()
        return correlation_map(heads[:3], similarity=self.similarity, joining=self.joining)

    def _extras(self, activations: Activations, correlation: Tensor) -> dict[str, Tensor]:
        layout = activations.layout
        if self.denoise == "class-row":
            affinity = above_class_row(correlation, layout)
        else:
            affinity = layout.patches(layout.patches(correlation), dim=2)
        kept = torch.ones(affinity.shape[:2], dtype=torch.bool, device=affinity.device)
        if self.denoise == "self":
            excess = own_excess(affinity)
            # Deviation: the paper clusters «the refined weights» of the kept patches; their rows are, and keep all N
            # columns, since a prototype needs a value at every patch (Eq 6).
            # No cosine exceeds that of a vector with itself; what rounding leaves above 0 is cut off.
            kept = excess <= 0 if self.similarity == "inner-product" else excess <= ROUNDING
        extras = {"affinity": affinity, "kept": kept, "image": image_of(activations)}
        return extras | ({"correlation": correlation} if self.raw_maps else {})


def image_of(activations: Activations) -> Tensor:
    """The images as they were before normalization, with the padding to whole patches: (B, 3, h, w) in [0, 1]."""
    images = pad_to_patches(activations.images.to(activations.backbone.device).float(), activations.backbone.patch_size)
    return denormalize(images, activations.backbone.mean, activations.backbone.std).clamp(0, 1)
