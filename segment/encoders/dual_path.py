"""A second stream beside the stock one over the last blocks, made of self-self attention alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import QKV, Backbone, attend
from diagnostics.check_numbers import check_iterations, check_positive
from diagnostics.detectors.base import Detector
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.layout import Layout
from diagnostics.purifiers.base import Purifier
from diagnostics.purifiers.keep import Keep
from diagnostics.taps import Recorder, chain
from segment.encoders.kernels import PAIRS, Combine, KernelPositions, check_kernel, kernel_mix, kernel_terms
from segment.encoders.layerwise import fitted_layerwise
from segment.encoders.purification import (
    purification_needs,
    purification_unsupported_reason,
    purified_tokens,
    recombination_unsupported_reason,
)
from segment.method import LAST_BUT_ONE, Activations, Encoder, Encoding, Purification, TapSite, check_words, encoding

# What attention of a block is made of, besides the block's input: recorded, it need not be made again.
PARTS = ("normed", "query", "key", "value", "query_unrotated", "key_unrotated")


@dataclass(frozen=True, kw_only=True)
class DualPath(Encoder):
    """The last `blocks` blocks run twice: as they are, and beside them as a sum of attention outputs.

    The second stream starts as the stock tokens that enter the first of these blocks. Each block adds Proj(kernel · v),
    where q, k and v come from the *stock* tokens that enter it; there is no feed-forward network. The patches are the
    second stream's, the class token is the stock one.

    `kernel`, `combine` and `kernel_positions` (its `positions`) as in segment.encoders.kernels. With `unit`, queries,
    keys and values have length 1 in the logits. `iterations` times, each of the three is replaced by its own self-self
    attention over itself before it makes logits; the values that are mixed stay as they were. `inverse_temperature` is
    the factor of the logits: `width` for 1/√d, `norms` for the mean length of the image's tokens after the first
    LayerNorm over √d, or a number.

    `early` says how the blocks before these attend: as in the stock model, or by `identity`, each token to itself
    alone; the first stream then continues from what comes out with the stock attention.

    `detector` and `purifier` purify what the second stream reads of the stock one, before each of the blocks anew; the
    stock stream itself continues unpurified (our choice).
    """

    blocks: int = 6
    kernel: str = "vv"
    combine: Combine = "sum"
    kernel_positions: KernelPositions = "kept"  # our choice: q-q and k-k as attention itself compares them
    unit: bool = False
    iterations: int = 0
    inverse_temperature: float | Literal["width", "norms"] = "width"
    early: Literal["stock", "identity"] = "stock"
    detector: Detector = LofRelease()
    purifier: Purifier = Keep()

    @property
    def purification(self) -> Purification:
        return Purification(self.detector, LAST_BUT_ONE)

    def __post_init__(self) -> None:
        check_words(self)
        check_kernel(self.kernel, self.combine)
        if self.blocks < 1:
            raise ValueError(f"`blocks` should be at least 1, such as 6; got {self.blocks}.")
        check_iterations("iterations", self.iterations)
        if isinstance(self.inverse_temperature, str):
            if self.inverse_temperature not in ("width", "norms"):
                raise ValueError(
                    f"`inverse_temperature` should be width, norms or a number; got `{self.inverse_temperature}`."
                )
        else:
            check_positive("inverse_temperature", self.inverse_temperature)

    def needs(self, depth: int) -> list[TapSite]:
        if self._own_first_stream(depth):
            return [("block_out", 0)]
        places: list[TapSite] = []
        for layer in self._entries(depth):
            places += purification_needs(self.detector, self.purifier, layer)
            # The last block's are made from its input, so that the stock pass can end before it.
            if isinstance(self.purifier, Keep) and layer + 1 < depth:
                places += [(part, layer + 1) for part in (*PARTS, "attention_bias")]
        return places

    def unsupported_reason(self, backbone: Backbone, layout: Layout) -> str | None:
        if reason := recombination_unsupported_reason(backbone):
            return reason
        if self.blocks > backbone.depth:
            return f"it doubles the last {self.blocks} blocks of {backbone.depth}. Set blocks={backbone.depth} or less"
        return purification_unsupported_reason(self.detector, self.purifier, layout, backbone.depth - self.blocks)

    def fitted(self, backbone: Backbone, images: Tensor) -> DualPath:
        if isinstance(self.purifier, Keep):  # nothing is looked for
            return self
        ready = fitted_layerwise(self.detector, backbone, images, self._entries(backbone.depth))
        return self if ready is self.detector else replace(self, detector=ready)

    def __call__(self, activations: Activations) -> Encoding:
        entries = self._entries(activations.depth)
        if self._own_first_stream(activations.depth):
            activations = self._without_early_attention(activations, entries)
        purifications = [purified_tokens(activations, self.detector, self.purifier, layer) for layer in entries]
        second = purifications[0][0]
        for layer, (tokens, _) in zip(entries, purifications, strict=True):
            block = activations.blocks[layer]
            heads = recorded_heads(activations, layer + 1) if tokens is activations.tokens(layer) else block.qkv(tokens)
            second = second + block.merge_heads(self._mixed(heads, activations.layout.prefix), heads.normed)
        outliers = torch.stack([mask for _, mask in purifications]).any(dim=0)
        return encoding(activations, second, class_token=stock_class_token(activations), extras={"outliers": outliers})

    def _entries(self, depth: int) -> range:
        """Layers whose output enters the doubled blocks: depth - blocks … depth - 1."""
        if self.blocks > depth:
            raise ValueError(f"`blocks` should be at most {depth}, the number of blocks; got {self.blocks}.")
        return range(depth - self.blocks, depth)

    def _own_first_stream(self, depth: int) -> bool:
        """Whether the stock pass is of no use beyond the embedding."""
        return self.early == "identity" and self.blocks < depth

    def _without_early_attention(self, activations: Activations, entries: range) -> Activations:
        """The first stream, over blocks that attend by identity up to the first doubled one."""
        tokens, first = activations.tokens(0), entries[0]
        for block in activations.blocks[: first - 1]:
            normed = block.norm(tokens)
            summed = tokens + block.merge_heads(block.project_values(normed), normed)
            tokens = summed + block.ffn(summed, tokens)
        # The block whose output is read first runs with taps, for a detector may look into it.
        wanted = (*PARTS, "attention_bias") if isinstance(self.purifier, Keep) else self.detector.needs
        recorder = Recorder("block_out", *wanted, layers=entries)
        activations.backbone.run(
            tokens, start=first, stop=-2, tap=chain(_IdentityAttention(first), recorder), layout=activations.layout
        )
        return Activations(activations.backbone, activations.images, activations.layout, recorder.recording)

    def _mixed(self, heads: QKV, prefix: int) -> Tensor:
        """The block's values, mixed: (B, H, T, d)."""
        factor: Tensor | float = 1.0  # on top of 1/√d
        if self.inverse_temperature == "norms":
            factor = heads.normed.float().norm(dim=-1).mean(dim=1)[:, None, None, None].to(heads.v.dtype)
        elif not isinstance(self.inverse_temperature, str):
            factor = self.inverse_temperature * heads.v.shape[-1] ** 0.5
        terms = kernel_terms(self.kernel)
        needed = set("".join(term for term in terms if term in PAIRS)) | (set("qk") if "aligned" in terms else set())
        # Half of the factor on either side of the logits.
        sides = {
            name: self._refined(getattr(heads, name), factor**0.5) if name in needed else getattr(heads, name)
            for name in ("q", "k", "v")
        }
        plain = heads.unrotated
        if plain is not None and self.kernel_positions == "dropped":
            plain = (self._refined(plain[0], factor**0.5), self._refined(plain[1], factor**0.5))
        refined = QKV(**sides, normed=heads.normed, unrotated=plain, bias=heads.bias)
        return kernel_mix(
            refined, self.kernel, self.combine, positions=self.kernel_positions, values=heads.v, prefix=prefix
        )

    def _refined(self, part: Tensor, side: Tensor | float) -> Tensor:
        """Queries, keys or values as they make logits: (B, H, T, d) -> (B, H, T, d)."""
        if self.unit:
            part = F.normalize(part, dim=-1)
        for _ in range(self.iterations):
            part = attend(part * side, part * side, part)
            if self.unit:
                part = F.normalize(part, dim=-1)
        return part * side


class _IdentityAttention:
    """A tap by which every token of one block attends to itself alone."""

    def __init__(self, layer: int) -> None:
        self.layer = layer

    def start(self, depth: int, layout: Layout | None = None) -> None: ...

    def wants(self, name: str, layer: int) -> bool:
        return (name, layer) == ("attention", self.layer)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        return torch.eye(value.shape[-1], dtype=value.dtype, device=value.device).expand_as(value)


def recorded_heads(activations: Activations, layer: int) -> QKV:
    """Queries, keys and values of a block on the stock tokens: as recorded, or made from the block's input."""
    if all((part, layer) in activations.recording for part in PARTS):
        normed, q, k, v, *plain = (activations.recording[part, layer] for part in PARTS)
        bias = activations.recording.get("attention_bias", layer)
        return QKV(q, k, v, normed, None if plain[0] is q else (plain[0], plain[1]), bias)
    return activations.heads(layer)


def stock_class_token(activations: Activations) -> Tensor | None:
    """The class token that leaves the stock model, from what enters its last block: (B, D); None without one.

    The block runs for this token alone; needs ("block_out", -2).
    """
    index = activations.layout.class_index
    if index is None:
        return None
    block, heads, class_place = activations.blocks[-1], activations.heads(-1), slice(index, index + 1)
    bias = None if heads.bias is None else heads.bias[:, :, class_place]
    mixed = attend(heads.q[:, :, class_place], heads.k, heads.v, bias)
    entering = activations.tokens(-2)[:, class_place]
    token = entering + block.merge_heads(mixed, heads.normed[:, class_place])
    return (token + block.ffn(token, entering))[:, 0]
