"""SFP as its paper prints it: outliers purified at every layer, attention enhanced, maps of all layers integrated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone, Block
from diagnostics.check_numbers import check_iterations
from diagnostics.detectors.base import Detector
from diagnostics.detectors.som import Som
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.layout import Layout
from diagnostics.memory import FLOAT
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from diagnostics.purifiers.sfp_sum import SfpSum
from diagnostics.taps import chain, resolve_layer
from segment.encoders.fusion import sinkhorn
from segment.encoders.kernels import Combine, KernelPositions, check_kernel, kernel_mix
from segment.encoders.layerwise import fitted_layerwise
from segment.encoders.purification import purification_unsupported_reason, recombination_unsupported_reason
from segment.method import LAST_BUT_ONE, Activations, Encoder, Encoding, Purification, TapSite, check_words, encoding

Values = Literal["tokens", "projected"]
NormAt = Literal["after", "before"]
MapHeads = Literal["mean", "max"]


class AttentionSum:
    """A tap that adds up attention among patches over layers, the columns of purified patches at 0 (SFP, Eq 8-9).

    `total` is (B, N, N) in fp32 after a pass in which `edit`, ahead of it in the chain, purifies; None before.
    """

    def __init__(self, edit: PurifyAt | None, layers: range, heads: MapHeads, layout: Layout) -> None:
        self.edit, self.layers, self.heads, self.layout = edit, layers, heads, layout
        self.total: Tensor | None = None
        self._attention: Tensor | None = None

    def start(self, depth: int, layout: Layout | None = None) -> None:
        self.total = self._attention = None

    def wants(self, name: str, layer: int) -> bool:
        return name in ("attention", "block_out") and layer in self.layers

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        if name == "attention":
            among = self.layout.patches(self.layout.patches(value, dim=2), dim=3).float()
            self._attention = among.mean(dim=1) if self.heads == "mean" else among.amax(dim=1)
        elif self._attention is not None:
            # Which patches are outliers is known only once the block is through.
            mask = self.edit.masks.get(layer) if self.edit is not None else None
            kept = self._attention if mask is None else self._attention.masked_fill(mask[:, None, :], 0)
            self.total = kept if self.total is None else self.total + kept
            self._attention = None
        return value


@dataclass(frozen=True, kw_only=True)
class PrintedSfp(Encoder):
    """The three modules of SFP by its equations; it runs the blocks again, from the embedding on.

    Outlier mitigator (Eq 4-5): after each of the blocks `purify_from`…`purify_to`, what `detector` marks is purified by
    `purifier`, and later blocks see the purified tokens. Attention enhancer (Eq 6-7), in place of block L: F = F_SOM +
    FFN(Attn · F_SOM), Attn of `kernel`, `combine` and `kernel_positions` (its `positions`) as in
    segment.encoders.kernels. `values`: `tokens` mixes the tokens themselves, as Eq 7 has it, by the mean over heads;
    `projected` mixes each head's values and projects them, as Fig 2 draws it. `residual` and `ffn` leave out either
    part; `class_in_keys` says whether patches attend to prefix tokens. Attention integrator (Eq 8-11), with
    `integrate`: attention among patches at the layers `integrate_from`…L-1, heads reduced by `map_heads`, columns of
    outliers 0, summed, rows and columns normalized in turn `iterations` times; it mixes the patches `after` them or
    `before` them come the last norm and the projection (`norm_at`).

    The encoding's class token is the enhancer's. Extras: `outliers` (B, N), those of the last purified layer;
    `outliers_by_layer` (B, layers, N), in the order of layers; `affinity` (B, N, N), what the patches were mixed by.
    Source: SFP (Jin et al., ICCV 2025), Sec 3.
    """

    detector: Detector = Som()  # Eq 4; heads reduced by their mean, our choice
    purifier: Purifier = SfpSum()  # Eq 5
    purify_from: int = 1
    purify_to: int = -2
    kernel: str = "qq+kk"
    combine: Combine = "joint"  # Eq 6: one softmax of the mean of both logits, λ = 1/2
    kernel_positions: KernelPositions = "kept"  # our choice: q-q and k-k as attention itself compares them
    values: Values = "tokens"  # Eq 7; Fig 2 draws a projection
    residual: bool = True
    ffn: bool = True
    class_in_keys: bool = True  # our choice: Eq 6-7 write all tokens
    integrate: bool = True
    integrate_from: int = 1  # l0 of its ablation: 1 is best
    map_heads: MapHeads = "mean"  # our choice: the paper writes one map a layer
    iterations: int = 6  # our choice: the paper gives none; a compiled file left in the release normalizes 6 times
    norm_at: NormAt = "after"  # our choice: the mix comes first, then norm and projection, as in the release

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, LAST_BUT_ONE)

    def __post_init__(self) -> None:
        check_words(self)
        check_kernel(self.kernel, self.combine)
        check_iterations("iterations", self.iterations, hint="where 0 sums without norm")

    def needs(self, depth: int) -> list[TapSite]:
        return [("block_out", 0)]

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """The attention between all pairs of patches, summed over layers."""
        return FLOAT * layout.count**2 if self.integrate else 0

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        if reason := recombination_unsupported_reason(backbone):
            return reason
        if backbone.depth < 2:
            return "it purifies before the last block, and the model has a single one"
        try:
            first, last, start = (
                resolve_layer(layer, backbone.depth)
                for layer in (self.purify_from, self.purify_to, self.integrate_from)
            )
        except ValueError as error:
            return str(error).rstrip(".")
        if not self._keeps and not 1 <= first <= last < backbone.depth:
            return (
                f"outliers are purified after blocks among 1…{backbone.depth - 1}, from the lower to the higher; "
                f"`purify_from` and `purify_to` name {first} and {last}"
            )
        if self.integrate and not 1 <= start < backbone.depth:
            return f"attention is integrated from a layer among 1…{backbone.depth - 1}; `integrate_from` names {start}"
        return purification_unsupported_reason(self.detector, self.purifier, layout)

    def purifying(self, detector: Detector, purifier: Purifier, purify_from: int, purify_to: int) -> PrintedSfp:
        return replace(self, detector=detector, purifier=purifier, purify_from=purify_from, purify_to=purify_to)

    def fitted(self, backbone: Backbone, images: Tensor) -> PrintedSfp:
        if self._keeps:
            return self
        layers = range(
            resolve_layer(self.purify_from, backbone.depth), resolve_layer(self.purify_to, backbone.depth) + 1
        )
        ready = fitted_layerwise(self.detector, backbone, images, layers)
        return self if ready is self.detector else replace(self, detector=ready)

    def __call__(self, activations: Activations) -> Encoding:
        layout, block = activations.layout, activations.blocks[-1]
        tokens, masks, maps = self._purified(activations)
        enhanced = self._enhanced(block, tokens, layout)
        extras = {"outliers": masks[:, -1], "outliers_by_layer": masks}
        if maps is None:
            return encoding(activations, enhanced, extras=extras)
        weights = extras["affinity"] = sinkhorn(maps, self.iterations)
        if self.norm_at == "before":
            result = encoding(activations, enhanced, extras=extras)
            return replace(result, patches=_mixed(weights, result.patches))
        mixed = _mixed(weights, layout.patches(enhanced))
        return encoding(activations, layout.with_patches(enhanced, mixed), extras=extras)

    @property
    def _keeps(self) -> bool:
        return isinstance(self.purifier, Keep)

    def _purified(self, activations: Activations) -> tuple[Tensor, Tensor, Tensor | None]:
        """Tokens of layer L-1 of the purified pass, what was marked (B, layers, N), and the summed maps, if wanted."""
        depth, layout, embedded = activations.depth, activations.layout, activations.tokens(0)
        layers = range(resolve_layer(self.purify_from, depth), resolve_layer(self.purify_to, depth) + 1)
        purify = None
        if not self._keeps:
            purify = PurifyAt(layers=tuple(layers), detector=self.detector, purifier=self.purifier)
        integrated = range(resolve_layer(self.integrate_from, depth), depth) if self.integrate else range(0)
        maps = AttentionSum(purify, integrated, self.map_heads, layout)
        tokens = activations.backbone.run(embedded, stop=-2, tap=chain(purify, maps), layout=layout)
        if purify is None:
            none = torch.zeros(len(embedded), 1, layout.count, dtype=torch.bool, device=embedded.device)
            return tokens, none, maps.total
        return tokens, torch.stack([purify.masks[layer] for layer in layers], dim=1), maps.total

    def _enhanced(self, block: Block, tokens: Tensor, layout: Layout) -> Tensor:
        """F_SAE of Eq 7: (B, T, D) -> (B, T, D)."""
        heads, skip = block.qkv(tokens), 0 if self.class_in_keys else layout.prefix
        more: Any = {"positions": self.kernel_positions, "prefix": layout.prefix}
        if self.values == "projected":
            mixed = kernel_mix(heads, self.kernel, self.combine, skip=skip, **more)
            result = block.merge_heads(mixed, heads.normed)
        else:
            # The tokens themselves have no heads: mixed by each head's attention, then averaged, is the mean attention.
            each = tokens[:, None].expand(-1, heads.v.shape[1], -1, -1)
            result = kernel_mix(heads, self.kernel, self.combine, skip=skip, values=each, **more).mean(dim=1)
        if self.ffn:
            result = block.ffn(result, tokens)
        return tokens + result if self.residual else result


def _mixed(weights: Tensor, patches: Tensor) -> Tensor:
    """Eq 11: (B, N, N), (B, N, D) -> (B, N, D), in the patches' dtype."""
    return (weights @ patches.to(weights.dtype)).to(patches.dtype)
