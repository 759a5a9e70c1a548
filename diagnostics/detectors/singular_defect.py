"""Singular defects: the direction that the blocks, made linear, stretch the most, found in the weights alone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone, Block
from diagnostics.detectors.base import ThresholdDetector
from diagnostics.detectors.features import patch_features, score_whole
from diagnostics.layout import Layout
from diagnostics.measures.lengths import unit_vectors
from diagnostics.taps import Recording, resolve_layer


def value_branch(block: Block, tokens: Tensor) -> Tensor:
    """Attention's branch if every token attended only to itself: norm, values, out-projection. (1, T, D) -> same."""
    normed = block.norm(tokens)
    return block.merge_heads(block.project_heads(normed)[2], normed)


@torch.no_grad()
def linear_fit(branch: Callable[[Tensor], Tensor], tokens: Tensor, inverse: Tensor) -> Tensor:
    """The matrix W (D, D) for which branch(x) is nearest to W x + b over the tokens (S, D), in fp64.

    `inverse` is the pseudo-inverse (D, S) of the tokens, whose mean is 0.
    """
    return (inverse @ branch(tokens[None])[0].double()).T


def defect_directions(backbone: Backbone, layers: Collection[int], *, samples: int, seed: int) -> dict[int, Tensor]:
    """Layer l of 1…L -> leading left singular vector of the product of blocks 1…l made linear: (D) fp64, of length 1.

    Each block is (I + W_ffn)(I + W_attn), or I + W_ffn + W_attn where both branches read its input. Its two branches
    are fitted by least squares over `samples` times D normal tokens of unit spread, in pairs x and −x; norm, gain,
    activation and layer scale are thereby within the fit, biases without. The largest entry is positive. Attention:
    every token sees only itself.
    """
    width = backbone.width
    drawn = torch.randn(samples * width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tokens = torch.cat([drawn, -drawn])
    # Normal equations: the tokens are nearly orthogonal, and all branches share them.
    inverse = torch.linalg.solve(tokens.T @ tokens, tokens.T).to(backbone.device)
    fed = tokens.to(backbone.device, backbone.dtype)
    identity = torch.eye(width, dtype=torch.float64, device=backbone.device)
    product, directions = identity, dict[int, Tensor]()
    for layer, block in enumerate(backbone.blocks[: max(layers, default=0)], start=1):

        def attention(x: Tensor, block: Block = block) -> Tensor:
            return value_branch(block, x)

        def feed_forward(x: Tensor, block: Block = block) -> Tensor:
            return block.ffn(x, x)

        maps = [linear_fit(branch, fed, inverse) for branch in (attention, feed_forward)]
        # Branches side by side add up; one after the other, the second reads what the first has added to.
        for linear in [maps[0] + maps[1]] if block.parallel else maps:
            product = (identity + linear) @ product
            product = product / product.norm()  # only the direction counts, and 40 blocks would overflow
        if layer in layers:
            leading = torch.linalg.svd(product).U[:, 0]
            directions[layer] = leading * leading[leading.abs().argmax()].sign()
    return directions


@dataclass(frozen=True, kw_only=True)
class SingularDefect(ThresholdDetector):
    """Marks patches along the direction that the blocks up to here stretch the most; `fitted` finds it in the weights.

    Score: |cosine| of the patch that leaves the block with that direction, in [0, 1]; no unit. A zero patch has 0.
    An adaptation: SINDER's code is written for the gated networks of DINOv2-g. Here norm, values with out-projection,
    and the feed-forward network of any backbone are each replaced by the nearest linear map over normal tokens, and
    attention by the identity. The images that `fitted` gets are not looked at. An image with a nan or infinite value
    has nan scores and no outliers. Without `fitted` scoring raises ValueError.
    Source: Wang et al., SINDER: repairing the singular defects of DINOv2, ECCV 2024.

    Extreme values: only the direction counts, so any length is right; equal patches have equal scores: all are marked,
    or none. In bf16 up to 11 % of the marks differ, near the line; the scores' rank correlation is 0.994 or more
    (docs/half-precision.md).
    """

    published: ClassVar[str] = "SINDER: DINOv2 from the middle layers on; it draws angles and fixes no threshold."
    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    threshold: float = 0.5  # our choice: 60 degrees; two random directions of D = 192 have |cosine| 0.06
    samples: int = 4  # our choice: normal tokens for the fit, in multiples of D; each comes with its opposite
    seed: int = 0
    direction: tuple[float, ...] = field(default=(), repr=False)  # (D); what `fitted` puts here

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"`threshold` should be a |cosine| from 0 to 1, such as 0.5; got {self.threshold}.")
        if self.samples < 1:
            raise ValueError(f"`samples` should be at least 1 times D; got {self.samples}.")

    def fitted(self, backbone: Backbone, images: Tensor, layer: int) -> Self:
        """The detector with the direction of the backbone's blocks 1…layer. ValueError for layer 0, which has none."""
        return self.fitted_to(backbone, images, [layer])[layer]

    def fitted_to(self, backbone: Backbone, images: Tensor, layers: Iterable[int]) -> dict[int, Self]:
        """`fitted` for several layers from one way through the blocks, which they share."""
        resolved = {layer: resolve_layer(layer, backbone.depth) for layer in layers}
        if 0 in resolved.values():
            raise ValueError("layer 0 is before all blocks; fit singular-defect to a layer from 1 on.")
        directions = defect_directions(backbone, set(resolved.values()), samples=self.samples, seed=self.seed)
        return {layer: replace(self, direction=tuple(directions[at].tolist())) for layer, at in resolved.items()}

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        if not self.direction:
            raise ValueError(
                "singular-defect has no direction yet: find it in the weights first, "
                "detector.fitted(backbone, images, layer)."
            )
        features = patch_features(recording, layout, "block_out")
        if features.shape[-1] != len(self.direction):
            raise ValueError(
                f"singular-defect was fitted to a backbone of width {len(self.direction)}; these tokens have width "
                f"{features.shape[-1]}. Fit it to this one: detector.fitted(backbone, images, layer)."
            )
        direction = torch.tensor(self.direction, device=features.device)
        return score_whole(features, lambda whole: (unit_vectors(whole) @ direction).abs())
