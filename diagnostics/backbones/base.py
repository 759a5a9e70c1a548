"""What every backbone gives: one block's forward with named taps, the trunk over them, and the door checks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from copy import copy
from typing import NamedTuple, Self, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diagnostics.backbones.positional import Positional
from diagnostics.backbones.positions import POSITIONS, interpolate_positions
from diagnostics.layout import Grid, Layout, grid_of, pad_to_patches
from diagnostics.tap_places import BY_QUERY_AND_KEY
from diagnostics.taps import IDENTITY, Recording, Tap, TapFunction, added_tokens, after_edits, resolve_layer


class QKV(NamedTuple):
    """What attention is made of. q, k, v: (B, H, T, d), attention = softmax(q·kᵀ/√d + bias); normed: (B, T, D).

    `q` and `k` are as attention compares them, after a rotary rotation; `unrotated` are they before it, or None where
    the model has none. `bias` (1, H, T, T) is the relative position bias, or None.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    normed: Tensor
    unrotated: tuple[Tensor, Tensor] | None = None
    bias: Tensor | None = None

    def without_positions(self) -> QKV:
        """The same without what attention knows of positions: queries and keys before the rotation, no bias."""
        q, k = self.unrotated or (self.q, self.k)
        return QKV(q, k, self.v, self.normed)


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q·kᵀ/√d + bias), softmax in fp32: (B, H, t, d), (B, H, T, d) -> (B, H, t, T), rows sum to 1."""
    logits = (q * q.shape[-1] ** -0.5) @ k.mT
    if bias is not None:
        logits = logits + bias
    return logits.float().softmax(dim=-1).to(q.dtype)


def recorded_attention(recording: Recording, layer: int) -> Tensor:
    """Attention of a layer in fp32 from what was recorded of it (`ATTENTION_PARTS`): (B, H, T, T), rows sum to 1."""
    bias = recording.get("attention_bias", layer)
    bias = None if bias is None else bias.float()
    return attention_weights(recording["query", layer].float(), recording["key", layer].float(), bias)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None, *, scale: float | None = None) -> Tensor:
    """softmax(`scale`·q·kᵀ + bias)·v, fused: (B, H, t, d), two (B, H, T, d) -> (B, H, t, d); scale is 1/√d if None.

    In bf16 on a CPU by plain products, rounded as stock models round there: the fused kernel takes twice the time.
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu" and bias is None:
        return ((q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, bias, scale=scale)


# Why parts that read queries and keys can't run on models with such attention.
DIFFERENTIAL = (
    "attention is a difference of two softmaxes, of two pairs of queries and keys: its rows are not a distribution. "
    "What reads tokens runs, and so does the tap `attention`, the difference as it is applied"
)


class Block(ABC):
    """One transformer block over stock weights, in pieces that methods recombine.

    `heads` is the number of heads. `needs_grid`: attention knows of places on the grid, by a rotation of queries and
    keys or by a bias; such a block runs only where it stands on a grid (`Backbone.blocks_on`), and says so otherwise.
    `positional` is that grid's, None for blocks that need none. `parallel`: the feed-forward network stands beside the
    attention and reads the block's input, not the sum. `differential`: attention is a difference of two softmaxes, of
    two pairs of queries and keys, so that there is no q and no k to make it from. An adapter fills in the steps; the
    order of the taps is here and nowhere else.
    """

    heads: int
    needs_grid: bool = False
    parallel: bool = False
    differential: bool = False
    positional: Positional | None = None

    @abstractmethod
    def norm(self, x: Tensor) -> Tensor:
        """What queries, keys and values are made from: (B, T, D) -> (B, T, D).

        The first LayerNorm; where the norms stand after the branches, the block's input itself.
        """

    @abstractmethod
    def project_heads(self, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v of each head, q/k norm and any learned scale folded in: (B, T, D) -> three (B, H, T, d).

        Before any rotation.
        """

    def project_values(self, normed: Tensor) -> Tensor:
        """v alone: (B, T, D) -> (B, H, T, d). An adapter may spare the rest."""
        return self.project_heads(normed)[2]

    @abstractmethod
    def merge_heads(self, mixed: Tensor, normed: Tensor) -> Tensor:
        """Out-projection of the mixed values, layer scale included: (B, H, T, d) -> (B, T, D)."""

    @abstractmethod
    def ffn_hidden(self, x: Tensor) -> Tensor:
        """Second LayerNorm, first linear map, activation: (B, T, D) -> (B, T, F).

        Of the sum of block input and attention output; of the block input for a parallel block.
        """

    @abstractmethod
    def ffn_out(self, hidden: Tensor) -> Tensor:
        """Second linear map, layer scale included: (B, T, F) -> (B, T, D)."""

    def weights(self, q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
        """Attention of all heads: (B, H, T, d), (B, H, T, d) -> (B, H, T, T)."""
        return attention_weights(q, k, bias)

    def attended(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """The values mixed by `weights`, without making them: (B, H, T, d)."""
        return attend(q, k, v, bias)

    @final
    def at(self, positional: Positional | None) -> Self:
        """The block over the same weights, on a grid; this one is not changed."""
        if positional is None:
            return self
        bound = copy(self)
        bound.positional = positional
        return bound

    def _on_grid(self, tokens: int) -> Positional | None:
        if not self.needs_grid:
            return None
        if self.positional is None:
            raise ValueError(
                "this block's attention depends on where its tokens sit; take the blocks on the layout of the images: "
                "backbone.blocks_on(backbone.layout(images)), and give `run` the layout: run(…, layout=layout)."
            )
        self.positional.check(tokens)
        return self.positional

    @final
    def qkv(self, x: Tensor) -> QKV:
        """Queries, keys and values of the block's input, all tokens or the patches alone: (B, T, D) -> QKV."""
        if self.differential:
            raise ValueError(f"there are no queries and keys of one attention here: {DIFFERENTIAL}.")
        normed = self.norm(x)
        q, k, v = self.project_heads(normed)
        positional = self._on_grid(q.shape[2])
        if positional is None:
            return QKV(q, k, v, normed)
        rotation, bias = positional.rotation, positional.bias_for(q.shape[2])
        if rotation is None:
            return QKV(q, k, v, normed, bias=bias)
        return QKV(rotation(q), rotation(k), v, normed, (q, k), bias)

    @final
    def mix(self, weights: Tensor, heads: QKV) -> Tensor:
        """X_attn for any attention weights: (B, H, T, T), or (B, 1, T, T) for all heads -> (B, T, D)."""
        return self.merge_heads(weights.to(heads.v.dtype) @ heads.v, heads.normed)

    @final
    def ffn(self, x: Tensor, block_in: Tensor | None = None) -> Tensor:
        """The feed-forward branch without its residual: (B, T, D) -> (B, T, D).

        It reads `x`, which stands for the sum of block input and attention output; a parallel block's reads `block_in`,
        the same tokens as they entered the block, and has to be given them.
        """
        if not self.parallel:
            return self.ffn_out(self.ffn_hidden(x))
        if block_in is None:
            raise ValueError(
                "the feed-forward network of this block stands beside the attention and reads the block's input; give "
                "it: block.ffn(x, block_in)."
            )
        return self.ffn_out(self.ffn_hidden(block_in))

    @final
    def __call__(self, x: Tensor, tap: Tap = IDENTITY, *, layer: int = 1) -> Tensor:
        """The stock forward, (B, T, D) -> (B, T, D), with a tap at each named place.

        Attention is fused unless a tap wants the matrix.
        """
        x = block_in = tap("block_in", layer, x)
        normed = tap("normed", layer, self.norm(x))
        q, k, v = self.project_heads(normed)
        if not self.differential:
            q, k = tap("query_unrotated", layer, q), tap("key_unrotated", layer, k)
        positional, bias = self._on_grid(q.shape[2]), None
        if positional is not None:
            if positional.rotation is not None:
                q, k = positional.rotation(q), positional.rotation(k)
            bias = positional.bias_for(q.shape[2])
            if bias is not None:
                bias = tap("attention_bias", layer, bias)
        if not self.differential:
            q, k = tap("query", layer, q), tap("key", layer, k)
        v = tap("value", layer, v)
        if tap.wants("attention", layer):
            mixed = tap("attention", layer, self.weights(q, k, bias)) @ v
        else:
            mixed = self.attended(q, k, v, bias)
        mixed = tap("head_out", layer, mixed)
        x = tap("block_sum", layer, x + tap("attn_out", layer, self.merge_heads(mixed, normed)))
        hidden = tap("ffn_hidden", layer, self.ffn_hidden(block_in if self.parallel else x))
        return tap("block_out", layer, x + tap("ffn_out", layer, self.ffn_out(hidden)))


class Backbone(ABC):
    """A vision transformer over its stock weights.

    `spec` is the name at the door, `model` the stock module, `blocks` our blocks over its weights; take them from
    `blocks_on(layout)` to run them, since a grid's rotation or bias comes with it. `patch_size` and `native_size` are
    (height, width) in pixels. `prefix` counts class token and registers; `class_index` is the class token's place among
    them, or None. `mean` and `std` normalize RGB in [0, 1]. `positions` names the interpolation of the position table
    for other sizes, and `table_grid` its grid, the native one unless given. Images whose size is no multiple of the
    patch are padded with zeros (the mean color), evenly on both sides. `revision` is the commit on the hub that the
    weights come from, "" for others.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    revision: str = ""
    edits: tuple[Tap, ...] = ()  # in every forward pass; see `with_edits`

    def __init__(
        self,
        *,
        spec: str,
        model: nn.Module,
        blocks: Sequence[Block],
        width: int,
        patch_size: tuple[int, int],
        native_size: tuple[int, int],
        prefix: int,
        class_index: int | None,
        mean: Sequence[float],
        std: Sequence[float],
        positions: str = "bicubic-antialiased",
        table_grid: Grid | None = None,
        note: str = "",
    ) -> None:
        POSITIONS[positions]  # an unknown name is refused here, not in the first forward
        self.spec, self.model, self.blocks = spec, model.eval().requires_grad_(False), list(blocks)
        self.width, self.patch_size, self.native_size = width, patch_size, native_size
        self.prefix, self.class_index = prefix, class_index
        self.mean, self.std = tuple(mean), tuple(std)
        self.positions, self.table_grid = positions, table_grid or self.native_grid
        self.note = note
        self._tables: dict[tuple[Grid, str, torch.device, torch.dtype], Tensor | None] = {}
        check_finite(self.model, spec)

    # What an adapter fills in

    @abstractmethod
    def embed_patches(self, images: Tensor) -> Tensor:
        """Patch embedding alone: (B, 3, h, w), whole patches -> (B, N, D)."""

    @abstractmethod
    def position_table(self) -> tuple[Tensor, int] | None:
        """The learned positions (prefix' + N, D) and prefix', the number of prefix rows among them; None if none."""

    @abstractmethod
    def assemble(self, patches: Tensor, positions: Tensor | None) -> Tensor:
        """Positions added, prefix tokens joined, and the norm before the blocks, if any: (B, N, D) -> (B, T, D)."""

    @abstractmethod
    def project(self, tokens: Tensor) -> Tensor:
        """Final norm and projection into the space of the text or the classes' rows: (B, T, D) -> (B, T, E)."""

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor:
        """The stock model's output for the image: (B, T, D) -> (B, E)."""

    def positional(self, layout: Layout) -> Sequence[Positional | None]:
        """What each block's attention knows of the grid: its rotation, its bias; None for a block that needs neither.

        Made anew for each forward pass: grids may differ from call to call.
        """
        return [None] * self.depth

    def pool_features(self, tokens: Tensor) -> Tensor:
        """What the stock model pools for the image, before a classifier if it has one: (B, T, D) -> (B, E).

        In the space of `project`, so that it can be compared with texts or with rows of the classifier.
        """
        return self.pool(tokens)

    @property
    def has_text(self) -> bool:
        """Whether there is a text tower: `encode_text` works."""
        return type(self).encode_text is not Backbone.encode_text

    @property
    def has_classifier(self) -> bool:
        """Whether there are rows of a classifier: `class_head` works."""
        return type(self).class_head is not Backbone.class_head

    @property
    def logit_scale(self) -> float | None:
        """What cosines with texts were multiplied by in training; None without a text tower."""
        return None

    @property
    def logit_bias(self) -> float | None:
        """What is added to these products in training with the sigmoid loss (SigLIP); None for other models."""
        return None

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Text features of a two-tower model, not normalized: C texts -> (C, E)."""
        raise ValueError(
            f"`{self.spec}` has no text tower; use a two-tower backbone such as `open_clip:ViT-B-16-quickgelu/openai`, "
            "or the rows of its own classifier: backbone.class_head()."
        )

    def text_tokens(self, texts: Sequence[str]) -> list[list[int]] | None:
        """The numbers that the text tower reads for each text; None where it does not show them."""
        return None

    def cut_texts(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the text tower reads; False where it does not show its tokens."""
        return [False] * len(texts)

    def class_head(self) -> Tensor:
        """Rows of the model's own classifier: (C, E)."""
        raise ValueError(
            f"`{self.spec}` has no classifier head; describe the classes in words: backbone.encode_text(texts)."
        )

    # What all have

    @property
    def depth(self) -> int:
        """L, the number of blocks."""
        return len(self.blocks)

    @property
    def heads(self) -> int:
        return self.blocks[0].heads

    def lacking(self, taps: Iterable[str]) -> str | None:
        """Why a part that reads such taps can't run on this model, or None: its blocks do not pass all of them."""
        if any(block.differential for block in self.blocks) and not BY_QUERY_AND_KEY.isdisjoint(taps):
            return DIFFERENTIAL
        return None

    @property
    def origin(self) -> dict[str, str]:
        """What the settings of a run tell of where the weights come from: the commit on the hub, if there is one."""
        return {"revision": self.revision} if self.revision else {}

    @property
    def native_grid(self) -> Grid:
        return grid_of(self.native_size, self.patch_size)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Moves the weights; returns the same backbone."""
        self.model.to(device=device, dtype=dtype)
        self._tables.clear()
        return self

    def with_edits(self, edits: Sequence[Tap], spec: str) -> Self:
        """The same weights with edits in every forward pass, before any tap of the call; `spec` names both.

        A register that an edit adds counts among the prefix tokens. A method that makes a block anew from its parts
        passes the edits of that block by.
        """
        changed = copy(self)
        changed.edits, changed.spec = (*self.edits, *edits), spec
        changed.prefix = self.prefix + added_tokens(edits)
        return changed

    def layout(self, images: Tensor | tuple[int, int]) -> Layout:
        """Where tokens sit for images (B, 3, h, w), or for a size (height, width)."""
        size = (images.shape[-2], images.shape[-1]) if isinstance(images, Tensor) else images
        return Layout(self.prefix, grid_of(size, self.patch_size), self.class_index)

    @final
    def embed(self, images: Tensor, *, positions: str | None = None) -> Tensor:
        """Tokens that enter block 1: normalized images (B, 3, h, w) -> (B, T, D)."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"`images` should be normalized RGB of shape (B, 3, h, w); got {tuple(images.shape)}. "
                "Open files with diagnostics.images.load_image and normalize with the backbone's mean and std."
            )
        if not images.is_floating_point():
            raise TypeError(
                f"`images` should be normalized floating point; got {images.dtype}. Divide 0…255 by 255 and normalize "
                "with the backbone's mean and std: diagnostics.images.normalize."
            )
        images = pad_to_patches(images.to(self.device, self.dtype), self.patch_size)
        table = self._positions(grid_of((images.shape[-2], images.shape[-1]), self.patch_size), positions)
        return self.assemble(self.embed_patches(images), table)

    def _positions(self, grid: Grid, how: str | None) -> Tensor | None:
        key = (grid, how or self.positions, self.device, self.dtype)
        if key not in self._tables:
            learned = self.position_table()
            self._tables[key] = learned and interpolate_positions(
                learned[0].detach(), self.table_grid, grid, how=key[1], prefix=learned[1]
            )
            # A folder of images of all shapes must not fill the memory with tables.
            while len(self._tables) > 16:
                self._tables.pop(next(iter(self._tables)))
        return self._tables[key]

    @final
    def blocks_on(self, layout: Layout | None) -> list[Block]:
        """The blocks 1…L as they stand on a grid, over the same weights: what runs, and what methods recombine.

        `layout` may be None where no block needs a grid; ValueError where one does.
        """
        if not any(block.needs_grid for block in self.blocks):
            return self.blocks
        if layout is None:
            raise ValueError(
                f"the attention of `{self.spec}` depends on where its tokens sit; give the layout of the images: "
                "layout=backbone.layout(images)."
            )
        return [block.at(place) for block, place in zip(self.blocks, self.positional(layout), strict=True)]

    @final
    def run(
        self,
        tokens: Tensor,
        *,
        start: int = 1,
        stop: int = -1,
        tap: Tap | TapFunction | None = None,
        layout: Layout | None = None,
    ) -> Tensor:
        """Blocks `start`…`stop` on tokens that are already there: (B, T, D) -> (B, T, D).

        `layout` tells where the patches sit; edits need it, and models with rotary positions or a relative bias do.
        """
        tap = after_edits(self.edits, tap)
        tap.start(self.depth, layout)
        return self._run(tokens, resolve_layer(start, self.depth), resolve_layer(stop, self.depth), tap, layout)

    def _run(self, tokens: Tensor, first: int, last: int, tap: Tap, layout: Layout | None) -> Tensor:
        blocks = self.blocks_on(layout)
        for layer in range(max(first, 1), last + 1):
            tokens = blocks[layer - 1](tokens, tap, layer=layer)
        return tokens

    @final
    def trunk(
        self,
        images: Tensor,
        *,
        stop: int = -1,
        tap: Tap | TapFunction | None = None,
        positions: str | None = None,
    ) -> Tensor:
        """Tokens after block `stop`: normalized images (B, 3, h, w) -> (B, T, D).

        `stop` counts layers as everywhere: 1…L, 0 the embedding, negative from the end; all blocks by default.
        `positions` overrides the backbone's interpolation for this call. The embedding passes the tap as
        ("block_out", 0).
        """
        last = resolve_layer(stop, self.depth)
        tap = after_edits(self.edits, tap)
        layout = self.layout(images)
        tap.start(self.depth, layout)
        return self._run(tap("block_out", 0, self.embed(images, positions=positions)), 1, last, tap, layout)

    @final
    def __call__(self, images: Tensor) -> Tensor:
        """The stock model's output: normalized images (B, 3, h, w) -> (B, E)."""
        return self.pool(self.trunk(images))

    def __repr__(self) -> str:
        height, width = self.native_size
        return (
            f"{type(self).__name__}({self.spec!r}: {self.depth} blocks, width {self.width}, {self.heads} heads, "
            f"patch {self.patch_size[0]}x{self.patch_size[1]}, native {height}x{width}, {self.prefix} prefix tokens)"
        )


def check_finite(model: nn.Module, spec: str) -> None:
    """Refuses weights with NaN or infinity, naming the first tensor that has them."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise ValueError(
                f"the weights of `{spec}` should be finite; `{name}` has {bad} NaN or infinite of {tensor.numel()} "
                "values. The file is damaged or the training diverged: fetch or export it again."
            )


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, H·d) -> (B, H, T, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, T, d) -> (B, T, H·d)."""
    return x.transpose(1, 2).flatten(2)
