"""CLIP calibrated by its own middle layers: SC-CLIP and the released SFP, one path with other settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone, Block
from diagnostics.check_numbers import check_finite_number, check_not_negative
from diagnostics.detectors.base import Detector, largest
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.layout import Layout
from diagnostics.memory import FLOAT
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from diagnostics.purifiers.neighbor_mean import NeighborMean
from diagnostics.taps import resolve_layer
from segment.encoders.fusion import aggregate, apply_attention, masked_softmax, similarity, thresholded
from segment.encoders.kernels import KernelPositions, check_kernel, kernel_mix, kernel_terms
from segment.encoders.purification import (
    find_outliers,
    purification_needs,
    purification_unsupported_reason,
    recombination_unsupported_reason,
)
from segment.encoders.second_backbone import SecondBackbone, onto_grid
from segment.encoders.sharp_heads import handed_out, sharpest_mix
from segment.method import Activations, Encoder, Encoding, Purification, TapSite, check_words, encoding

DepthRule = Literal["line", "fixed"]
Terms = Literal["mean", "sum"]
SecondBranch = Literal["full", "similarity", "direct", "dual-path", "none"]

# Layers at 12 and at 24 blocks: SC-CLIP, arXiv:2411.15869, Sec 4.3 and supplement, Sec 6.
PRE, POST, FUSE_FROM, FUSE_TO = (9, 17), (4, 7), (4, 9), (10, 20)


def layer_at(depth: int, published: tuple[int, int], rule: DepthRule) -> int:
    """The layer of a model of `depth` blocks that corresponds to those published for 12 and for 24 blocks.

    `line`: on the line through both, halves rounded up, within 1…depth-1 (our choice; both published ones are on it).
    `fixed`: that of 12 blocks at every depth from 12 on, and on the line below.
    """
    twelve, twenty_four = published
    if rule == "fixed" and depth >= 12:
        return twelve
    exact = twelve + (twenty_four - twelve) * (depth - 12) / 12
    return min(max(math.floor(exact + 0.5), 1), depth - 1)


class LayerPlan(NamedTuple):
    """Layers, 0…L: where similarity comes from before and after the last block, and those that are fused."""

    pre: int
    post: int
    fused: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SelfCalibrated(Encoder):
    """Blocks 1…L-1 as they are; in place of block L, with patches alone:

    1. Purification: patches of layer L-1 that `detector` marks by what layer `purify_at_layer` shows are purified by
    `purifier`, and
       with `purify_pre` the same places at layer `pre_layer`. `count` takes that many of the highest scores instead of
       what the detector marks.
    2. S = cosine of the patches of `pre_layer`; with `pre`, patches become means weighted by S, entries below `beta` 0.
    3. Attention without residual and FFN: `terms` (mean or sum) of softmax(S') with the weight `similarity_weight` and
       of one softmax for each term of `kernel` with weight 1 (`kernel_positions` is `positions` of
       segment.encoders.kernels), where S' is `gate_scale`·(S - `gate_shift`·mean S) with
       negatives at -∞, from S as cut at `beta` if `gate_thresholded`. To each patch is added `class_share` times the
       class token of layer L-1.
    4. Second branch, from the sum of the layers `fuse_from`…`fuse_to` in steps of `fuse_step`: through the same
       attention (`full`), through softmax(S') alone (`similarity`), added as it is (`direct`), or `none`; with
       `class_share` of the summed class token. `dual-path`: each of these blocks is a decoder by itself, its input
       through its own weights with the attention of step 3, and their outputs are summed. Added to the first.
    5. With `post`, means weighted by the cosine of `post_layer`, entries below `beta` 0.

    `vfm` names a second backbone (`self` is the first one) whose last features stand for `pre_layer` and `post_layer`
    in every similarity, read at the first one's patch centers.

    `heads` chooses among the heads by how sharp they are, of those with the lowest entropy (in bits) that many. Before
    step 2, what the chosen heads of the block of `pre_layer` hand out by softmax(k·kᵀ/√d) is added to that layer's
    patches, each head mixing the values of all heads side by side; in step 3 and 4 the chosen heads' maps are summed,
    with the values of all heads, and divided by the number of all heads. None takes each head with its own values.
    Heads as sharp as the last one chosen are chosen as well. Source: duan-song/DiH-CLIP 775b609.

    Layers that are None follow `layer_at` and `depth_rule`. A model without a class token does without its share.
    The encoding's class token is that of layer L-1. Extras: `outliers` (B, N), which were purified, and `affinity`
    (B, N, N), S before the cut.
    Source: SuleBai/SC-CLIP 0417ba9; Kimsure/SFP 2804f5b.
    """

    # Deviation: the released codes find rows and columns of a patch by the number of rows, which is right for square
    # windows only; purifiers know the grid.
    # Deviation: the released SC-CLIP returns patch 0 where the class token is asked for; here it is as in SFP's code.
    detector: Detector = LofRelease()
    purifier: Purifier = NeighborMean()
    count: int | None = None
    purify_at_layer: int = -2
    purify_pre: bool = True
    pre: bool = True
    pre_layer: int | None = None
    post: bool = True
    post_layer: int | None = None
    beta: float = 0.4  # SC-CLIP, supplement, Sec 6
    kernel: str = "kk"
    kernel_positions: KernelPositions = "kept"  # our choice: q-q and k-k as attention itself compares them
    terms: Terms = "mean"
    similarity_weight: float = 1.0
    gate_shift: float = 1.0  # SuleBai/SC-CLIP 0417ba9
    gate_scale: float = 3.0  # SuleBai/SC-CLIP 0417ba9
    gate_thresholded: bool = False
    second_branch: SecondBranch = "full"
    fuse_from: int | None = None
    fuse_to: int | None = None
    fuse_step: int = 1
    vfm: str | None = None
    heads: int | None = None
    class_share: float = 0.3  # SuleBai/SC-CLIP 0417ba9; its setting for L/14 is 0.1
    depth_rule: DepthRule = "line"

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, self.purify_at_layer)

    def __post_init__(self) -> None:
        check_words(self)
        check_kernel(self.kernel, "sum")
        if not 0 <= self.beta < 1:
            raise ValueError(f"`beta` should be a cosine in [0, 1) below which nothing is similar; got {self.beta}.")
        check_not_negative("similarity_weight", self.similarity_weight, hint="where 0 leaves the term out")
        check_finite_number("gate_shift", self.gate_shift, hint="in the released code 1")
        check_not_negative("gate_scale", self.gate_scale, hint="in the released code 3")
        if self.fuse_step < 1:
            raise ValueError(f"`fuse_step` should be at least 1, which fuses every layer; got {self.fuse_step}.")
        if self.heads is not None and self.heads < 1:
            raise ValueError(f"`heads` should be at least 1, or none for each with its own values; got {self.heads}.")
        if self.heads is not None and (self.kernel != "kk" or self.terms != "mean" or self.similarity_weight != 1):
            raise ValueError(
                "`heads` chooses among the means of k-k and similarity attention, so `kernel` should be kk, `terms` "
                f"mean and `similarity_weight` 1; got {self.kernel}, {self.terms} and {self.similarity_weight:g}."
            )
        if self.count is not None and self.count < 1:
            raise ValueError(f"`count` should be at least 1, or none for what the detector marks; got {self.count}.")

    def plan(self, depth: int) -> LayerPlan:
        """The layers of a model of `depth` blocks; ValueError for one that it does not have."""

        def chosen(name: str, published: tuple[int, int]) -> int:
            layer: int | None = getattr(self, name)
            if layer is None:
                return layer_at(depth, published, self.depth_rule)
            if not -depth - 1 <= layer <= depth:
                raise ValueError(f"`{name}={layer}` is no layer of {depth} blocks; `{name}=none` goes by the depth")
            return resolve_layer(layer, depth)

        first, last = chosen("fuse_from", FUSE_FROM), chosen("fuse_to", FUSE_TO)
        fused = tuple(range(first, last + 1, self.fuse_step)) if self.second_branch != "none" else ()
        if self.second_branch != "none" and not fused:
            raise ValueError(f"`fuse_from` is layer {first} and `fuse_to` layer {last}, so no layer is fused")
        return LayerPlan(chosen("pre_layer", PRE), chosen("post_layer", POST), fused)

    def needs(self, depth: int) -> list[TapSite]:
        plan = self.plan(depth)
        # The dual path reads what enters the fused blocks.
        fused = [layer - 1 for layer in plan.fused] if self.second_branch == "dual-path" else plan.fused
        similar = [*([plan.pre] if self._compares else []), *([plan.post] if self.post else [])]
        other = self._other
        places: list[TapSite] = [("block_out", layer) for layer in (-2, *fused, *(similar if other is None else ()))]
        if self.heads is not None and other is None and self._compares:
            places.append(("block_out", plan.pre - 1))
        places += other.needs(depth) if other is not None else []
        return (
            places
            if self._keeps
            else [*places, *purification_needs(self.detector, self.purifier, self.purify_at_layer)]
        )

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """The cosines of all pairs of patches."""
        return FLOAT * layout.count**2 if self._other is None and (self.post or self._compares) else 0

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        if reason := recombination_unsupported_reason(backbone):
            return reason
        if backbone.depth < 2:
            return "it takes similarity from a layer before the last, and the model has a single block"
        try:
            self.plan(backbone.depth)
        except ValueError as error:
            return str(error)
        depth = backbone.depth
        if not self._keeps and self.purify_at_layer not in (*range(1, depth + 1), *range(-depth, 0)):
            return (
                f"outliers are looked for in the output of one of its {depth} blocks; "
                f"got `purify_at_layer={self.purify_at_layer}`"
            )
        return purification_unsupported_reason(self.detector, self.purifier, layout)

    def __call__(self, activations: Activations) -> Encoding:
        plan, block, layout = self.plan(activations.depth), activations.blocks[-1], activations.layout
        mask = self._outliers(activations)
        extras = {"outliers": mask}
        patches = self._purified(activations, -2, mask)
        weights, others = None, self._other_patches(activations)
        if self._compares:
            affinity = similarity(self._compared(activations, plan.pre, mask) if others is None else others)
            similar = thresholded(affinity, self.beta)
            extras["affinity"] = affinity
            if self._gates:
                weights = masked_softmax(
                    similar if self.gate_thresholded else affinity, shift=self.gate_shift, scale=self.gate_scale
                )
            if self.pre:
                patches = aggregate(similar, patches)
        class_token = activations.class_token(-2)
        result = self._attended(block, patches, weights, class_token)
        if plan.fused and self.second_branch == "dual-path":
            result = result + self._dual_path(activations, plan.fused, weights)
        elif plan.fused:
            result = result + self._second(block, _summed(activations, plan.fused), layout, weights)
        if self.post:
            # Both branches at once: the released codes aggregate one after the other and add, which is the same.
            deep = activations.patches(plan.post) if others is None else others
            result = aggregate(thresholded(similarity(deep), self.beta), result)
        return encoding(activations, result, class_token=class_token, extras=extras)

    @property
    def _other(self) -> SecondBackbone | None:
        """The second backbone of `vfm`, where there is one that anything is compared by."""
        if self.vfm is None or not (self._compares or self.post):
            return None
        # DINO's own interpolation of positions, as in ProxyCLIP.
        return SecondBackbone(spec=self.vfm, positions="bicubic-offset", detector=LofRelease(), purifier=Keep())

    def _other_patches(self, activations: Activations) -> Tensor | None:
        """Features of the second backbone at the first one's patches: (B, N, D'); None without one."""
        if self._other is None:
            return None
        second = self._other.activations(activations)
        return onto_grid(self._other.features(second), second, activations)

    def _compared(self, activations: Activations, layer: int, mask: Tensor) -> Tensor:
        patches = self._purified(activations, layer, mask) if self.purify_pre else activations.patches(layer)
        if self.heads is None or layer < 1:
            return patches
        return patches + activations.layout.patches(
            handed_out(activations, layer, self.heads, positions=self.kernel_positions)
        )

    @property
    def _keeps(self) -> bool:
        return isinstance(self.purifier, Keep)

    @property
    def _gates(self) -> bool:
        """Whether attention from similarity is part of either branch."""
        return bool(self.similarity_weight) or self.second_branch == "similarity"

    @property
    def _compares(self) -> bool:
        return self.pre or self._gates

    def _outliers(self, activations: Activations) -> Tensor:
        """Which patches are purified: (B, N) bool."""
        if self._keeps:
            return torch.zeros(
                len(activations.images),
                activations.layout.count,
                dtype=torch.bool,
                device=activations.tokens(-2).device,
            )
        if self.count is None:
            return find_outliers(activations, self.detector, self.purify_at_layer)
        return largest(
            self.detector.score(activations.recording.at(self.purify_at_layer), activations.layout), self.count
        )

    def _purified(self, activations: Activations, layer: int, mask: Tensor) -> Tensor:
        patches = activations.patches(layer)
        if self._keeps:
            return patches
        return self.purifier(patches, mask, activations.layout, class_token=activations.class_token(layer))

    def _attended(self, block: Block, patches: Tensor, weights: Tensor | None, class_token: Tensor | None) -> Tensor:
        """The last block on patches alone, all terms: (B, N, D) -> (B, N, D)."""
        heads = block.qkv(patches)
        if self.heads is not None:
            mixed = sharpest_mix(heads, self.heads, weights, positions=self.kernel_positions)
            return self._with_class(block.merge_heads(mixed, heads.normed), class_token)
        mixed = kernel_mix(heads, self.kernel, positions=self.kernel_positions)
        if weights is not None and self.similarity_weight:
            mixed = mixed + self.similarity_weight * apply_attention(weights, heads.v)
        if self.terms == "mean":
            mixed = mixed / (len(kernel_terms(self.kernel)) + self.similarity_weight)
        return self._with_class(block.merge_heads(mixed, heads.normed), class_token)

    def _dual_path(self, activations: Activations, layers: tuple[int, ...], weights: Tensor | None) -> Tensor:
        """The sum of what each of some blocks gives as a decoder: (B, N, D).

        SC-CLIP, Sec 4.4: CLIP Surgery's path, «modifying each layer as a decoder and summing up at the end»; that it
        is modified as the last one is, and that the first branch is added, is our choice.
        """
        blocks = activations.blocks
        parts = [self._attended(blocks[layer - 1], activations.patches(layer - 1), weights, None) for layer in layers]
        return torch.stack(parts).sum(dim=0)

    def _second(self, block: Block, fused: Tensor, layout: Layout, weights: Tensor | None) -> Tensor:
        """What the second branch adds, from the summed layers: (B, T, D) -> (B, N, D)."""
        patches = layout.patches(fused)
        if self.second_branch == "direct":
            return patches
        class_token = layout.class_token_or_none(fused)
        if self.second_branch == "similarity" and weights is not None:
            heads = block.qkv(patches)
            return self._with_class(block.merge_heads(apply_attention(weights, heads.v), heads.normed), class_token)
        return self._attended(block, patches, weights, class_token)

    def _with_class(self, patches: Tensor, class_token: Tensor | None) -> Tensor:
        if not self.class_share or class_token is None:
            return patches
        return patches + self.class_share * class_token[:, None]


def _summed(activations: Activations, layers: tuple[int, ...]) -> Tensor:
    """Sum of the tokens of layers: (B, T, D), in the model's dtype."""
    first, *others = (activations.tokens(layer) for layer in layers)
    total = first.to(torch.promote_types(first.dtype, torch.float32))
    for more in others:
        total = total + more
    return total.to(first.dtype)
