"""Statistics of the attention maps: rows, diagonal, received mass, entropy, rank, distance; per head.

All read `query` and `key`, what attention compares, after a rotary rotation, and the relative bias where there is one.
All come from one pass over queries and keys that holds a few rows of the attention matrix at a time, never the whole
(B, H, T, T). Only the rank needs whole maps, and takes them a few heads at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.measures.base import LayerView, Measure, Variable
from diagnostics.measures.queries import chosen_patches, outside_the_grid, query_coordinate
from diagnostics.memory import FLOAT
from diagnostics.tap_places import ATTENTION_PARTS

# Bytes of attention rows held at once. Our choice: inside a CPU's cache, and large enough to keep a GPU busy.
CHUNK_BYTES_CPU = 4 * 2**20
CHUNK_BYTES_GPU = 256 * 2**20
# Steps of the Lanczos iteration for the largest singular value before the first look, and the share of the value that
# may be wrong after the last. Our choice: most maps of trained models are found at once, to the digits of fp32.
LANCZOS_STEPS = 6
LANCZOS_TOLERANCE = 1e-5

# Least column of a stripe contrast, as a share of the mean column. Our choice: the median column of ViT-Ti/16 never
# falls below it, though its outliers draw most attention from layer 10 on; that of a head with few keys, as in layer 1
# of DINOv2-S/14, does.
LEAST_COLUMN = 0.01

MAPS = ("image", "layer", "head", "row", "col")
HEADS = ("image", "layer", "head")
SFP = "SFP (Jin et al., ICCV 2025), Eq 4"


def attention_rows(q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """softmax(q·kᵀ/√d + bias) in fp32: (…, R, d), (…, T, d), (…, R, T) -> (…, R, T), rows sum to 1.

    Where a product could leave fp32 all are made in double precision, so that finite queries and keys have finite
    attention, even if the network's own overflowed there.
    """
    queries, keys = q.float() * q.shape[-1] ** -0.5, k.float()
    return _softmax_of_products(queries, keys, bias, wide=_products_leave_fp32(queries, keys))


def _softmax_of_products(queries: Tensor, keys: Tensor, bias: Tensor | None, *, wide: bool) -> Tensor:
    if wide:
        queries, keys = queries.double(), keys.double()
    logits = queries @ keys.mT
    if bias is not None:
        logits = logits + bias
    return logits.softmax(dim=-1).float()


def _products_leave_fp32(queries: Tensor, keys: Tensor) -> bool:
    """Whether an entry of queries·keysᵀ could be infinite in fp32."""
    if not queries.numel() or not keys.numel():
        return False
    largest = float(queries.abs().amax()) * float(keys.abs().amax()) * queries.shape[-1]
    return largest > torch.finfo(torch.float32).max / 2


def class_row(q: Tensor, k: Tensor, layout: Layout, bias: Tensor | None = None) -> Tensor:
    """Attention of the class token to each patch: q, k (B, H, T, d), bias (1, H, T, T) -> (B, H, N), in [0, 1].

    One row of the softmax; the matrix is not made. What goes to prefix tokens is left out, so rows sum to at most 1.
    """
    row_bias = None if bias is None else layout.class_token(bias, dim=2)[:, :, None].float()
    rows = attention_rows(layout.class_token(q, dim=2)[:, :, None], k, row_bias)
    return layout.patches(rows[:, :, 0], dim=2)


def attention_statistics(
    q: Tensor,
    k: Tensor,
    layout: Layout,
    wanted: Collection[str],
    *,
    bias: Tensor | None = None,
    patch_size: tuple[int, int] = (1, 1),
) -> dict[str, Tensor]:
    """The statistics asked for, each over the whole attention map, without holding it.

    q, k: (B, H, T, d), attention = softmax(q·kᵀ/√d + bias), bias (1, H, T, T). `wanted` names from: `self` (B, H, N),
    the diagonal; `received` (B, H, T), mean over patch queries of what each token gets; `entropy` (B, H), in nat, mean
    over all queries; `distance` (B, H), in pixels, mean over patch queries; `rank` (B, H), share of the largest squared
    singular value of the patch-patch part. The last two are nan where nothing is left for patches, that is where fp32
    rounds the attention of a query, or for `rank` of all queries, to patches to 0.
    """
    batch, heads, tokens, width = q.shape
    queries = (q.float() * width**-0.5).flatten(0, 1)
    keys = k.float().flatten(0, 1)
    wide = _products_leave_fp32(queries, keys)
    pairs = batch * heads
    budget = (CHUNK_BYTES_GPU if q.is_cuda else CHUNK_BYTES_CPU) // 4
    rows = tokens if "rank" in wanted else max(1, min(tokens, budget // tokens))
    at_once = max(1, budget // (rows * tokens))
    distances = patch_distances(layout, patch_size, q.device) if "distance" in wanted else None

    sums = {
        name: queries.new_zeros(pairs, *shape)
        for name, shape in {
            "self": (layout.count,),
            "received": (tokens,),
            "entropy": (),
            "distance": (),
            "rank": (),
        }.items()
        if name in wanted
    }
    for first in range(0, pairs, at_once):
        chunk = slice(first, first + at_once)
        for start in range(0, tokens, rows):
            stop = min(start + rows, tokens)
            rows_bias = None
            if bias is not None:
                rows_bias = bias[0, [pair % heads for pair in range(pairs)[chunk]], start:stop].float()
            attention = _softmax_of_products(queries[chunk, start:stop], keys[chunk], rows_bias, wide=wide)  # (p, r, T)
            _add_rows(sums, chunk, attention, start, layout, distances)
    if "received" in sums:
        sums["received"] /= layout.count
    if "entropy" in sums:
        sums["entropy"] /= tokens
    if "distance" in sums:
        sums["distance"] /= layout.count
    return {name: value.unflatten(0, (batch, heads)) for name, value in sums.items()}


def _add_rows(
    sums: dict[str, Tensor],
    chunk: slice,
    attention: Tensor,
    start: int,
    layout: Layout,
    distances: Tensor | None,
) -> None:
    """Adds to `sums` what these rows of the maps of `chunk` give."""
    if "entropy" in sums:
        # -Σ p ln p; written so because it takes a third of the time of torch.special.entr. 0·ln(tiny) is 0.
        logs = attention.clamp_min(torch.finfo(attention.dtype).tiny).log_()
        sums["entropy"][chunk] -= logs.mul_(attention).sum(dim=(1, 2))
    # The rows that are patch queries, and which patches they are.
    skip = max(layout.prefix - start, 0)
    patch_rows = attention[:, skip:]
    first = start + skip - layout.prefix
    last = first + patch_rows.shape[1]
    if last <= first:
        return
    if "self" in sums:
        sums["self"][chunk, first:last] = patch_rows[:, :, layout.prefix + first : layout.prefix + last].diagonal(
            dim1=1, dim2=2
        )
    if "received" in sums:
        sums["received"][chunk] += patch_rows.sum(dim=1)
    patch_map = patch_rows[:, :, layout.prefix :]
    if distances is not None:
        reach = (patch_map * distances[first:last]).sum(dim=2) / patch_map.sum(dim=2)
        sums["distance"][chunk] += reach.sum(dim=1)
    if "rank" in sums:
        sums["rank"][chunk] = rank_one_share(patch_map)


def patch_distances(layout: Layout, patch_size: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Distance between the centers of every two patches, in pixels of the network's input: (N, N)."""
    grid = layout.grid
    rows = torch.arange(grid.rows, device=device).repeat_interleave(grid.cols) * float(patch_size[0])
    cols = torch.arange(grid.cols, device=device).repeat(grid.rows) * float(patch_size[1])
    return torch.hypot(rows[:, None] - rows, cols[:, None] - cols)


def rank_one_share(maps: Tensor) -> Tensor:
    """σ₁²/Σσ²: how much of a map one pair of a column and a row explains: (…, R, N) -> (…), in (0, 1].

    1 where all queries attend alike, so stripes are all there is; 1/N for a map that is a permutation; nan for a map
    of zeros, and for one so close to it that its squares leave fp32. The largest singular value comes from a Lanczos
    iteration, which starts from the column means: not orthogonal to the leading vector of a non-negative matrix.
    """
    flat = maps.reshape(-1, *maps.shape[-2:])
    share = flat.new_empty(len(flat))
    open_maps, steps = torch.arange(len(flat), device=flat.device), LANCZOS_STEPS
    while True:
        unsettled = flat if len(open_maps) == len(flat) else flat[open_maps]
        values, errors = _largest_squared_singular_value(unsettled, steps)
        total = unsettled.square().sum(dim=(-2, -1))
        share[open_maps] = (values / total).where(total > 1e6 * torch.finfo(maps.dtype).tiny, torch.nan)
        unfinished = errors > LANCZOS_TOLERANCE * values
        if steps >= maps.shape[-1] or not bool(unfinished.any()):
            return share.view(maps.shape[:-2])
        # Heads that look at the neighborhood only have singular values close together: few maps, many steps.
        open_maps, steps = open_maps[unfinished], 4 * steps


def _largest_squared_singular_value(maps: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """σ₁² of each map and an estimate of the error in it: (n, R, N) -> (n), (n)."""
    tiny = torch.finfo(maps.dtype).tiny
    steps = min(steps, maps.shape[-1])
    vector = maps.mean(dim=-2, keepdim=True)  # (n, 1, N), a row as all vectors here
    vector = vector / vector.norm(dim=-1, keepdim=True).clamp_min(tiny)
    basis = vector
    diagonal, beside = [], []
    for step in range(steps):
        # maps·vector and then ·maps, written so because batched products with a column are ten times slower on a CPU.
        grown = (maps * vector).sum(dim=-1)[..., None, :] @ maps
        diagonal.append((grown * vector).sum(dim=-1))
        # Orthogonalised against all vectors, twice: once leaves rounding along them, which grows.
        for _ in range(2):
            grown = grown - (grown @ basis.mT) @ basis
        size = grown.norm(dim=-1)
        # A map of low rank exhausts the space: zero vectors from there on, which add eigenvalues 0 only.
        alive = size > 1e-6 * diagonal[0]
        beside.append(torch.where(alive, size, 0))
        if step + 1 < steps:
            vector = torch.where(alive, 1 / size.clamp_min(tiny), 0)[..., None] * grown
            basis = torch.cat([basis, vector], dim=-2)
    small = torch.diag_embed(torch.cat(diagonal, dim=-1))
    if steps > 1:
        off = torch.cat(beside[:-1], dim=-1)
        small = small + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values, vectors = torch.linalg.eigh(small)
    largest = values[..., -1]
    # Kato and Temple: the error is at most residual² over the gap to the next eigenvalue, and the residual at most.
    residual = beside[-1][..., 0] * vectors[..., -1, -1].abs()
    gap = largest - values[..., -2] if steps > 1 else largest
    return largest, torch.minimum(residual, residual.square() / gap.clamp_min(tiny))


def stripe_contrast(received: Tensor) -> Tensor:
    """Largest over median received mass: (…, N) -> (…), from 1 to 100 N; 1 where no column stands out.

    A median below a hundredth of the mean counts as that: most columns get next to nothing then, and how little is a
    matter of rounding. 1 where no column gets anything. Source: ours.
    """
    mean = received.mean(dim=-1)
    usual = torch.quantile(received, 0.5, dim=-1).maximum(LEAST_COLUMN * mean)
    return torch.where(mean == 0, 1.0, received.amax(dim=-1) / usual)


def _statistics(view: LayerView, name: str) -> Tensor:
    """One statistic of a layer; all that any measure of this run asks for are computed together, once."""
    cache = view.shared.setdefault("attention_statistics", {})
    if name not in cache:
        wanted = {*view.shared.get("attention_wanted", ()), name} - cache.keys()
        bias = view.recording.get("attention_bias", view.layer)
        cache |= attention_statistics(
            view["query"], view["key"], view.layout, wanted, bias=bias, patch_size=view.patch_size
        )
    return cache[name]


@dataclass(frozen=True, kw_only=True)
class ClassAttention(Measure):
    """Attention of the class token to each patch, per head.

    Unit: share of the row, 1/T is even. Source: SFP Eq 4 and supplement Fig 1 d; CLIPtrase Fig 2.

    Extreme values: shares of one row, finite for finite queries and keys. Products of queries and keys beyond fp32
    are made in double precision. In bf16 shares differ by about a per cent of themselves, single ones by tens of
    per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (Variable("class_attention", MAPS, "1", "attention of the class token to the patch", SFP),)

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return None if layout.has_class_token else "the model has no class token"

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        bias = view.recording.get("attention_bias", view.layer)
        rows = class_row(view["query"], view["key"], view.layout, bias)
        return {"class_attention": view.layout.to_map(rows, dim=2)}


@dataclass(frozen=True, kw_only=True)
class SelfAttention(Measure):
    """Attention of each patch to itself (the diagonal), per head.

    Unit: share of the row, 1/T is even. Source: SFP Eq 4.

    Extreme values: finite for finite queries and keys. Products of queries and keys beyond fp32 are made in double
    precision. In bf16 shares differ by about a per cent of themselves, single ones by tens of per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    wants: ClassVar[tuple[str, ...]] = ("self",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (Variable("self_attention", MAPS, "1", "attention of the patch to itself", SFP),)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"self_attention": view.layout.to_map(_statistics(view, "self"), dim=2)}


@dataclass(frozen=True, kw_only=True)
class ReceivedAttention(Measure):
    """Attention that each patch receives: the column mean over patch queries, and how far stripes stand out.

    Unit: share of a row, 1/T is even. Stripe contrast is the largest over the median column mean.
    Source: stripes of CLIPtrase Fig 2 and SFP supplement Fig 1 a; the numbers are ours.

    Extreme values: finite for finite queries and keys. Products of queries and keys beyond fp32 are made in double
    precision. `stripe_contrast` lies between 1 and 100 N: a median column below a hundredth of the mean one counts
    as that; 1 where no patch gets any attention. In bf16 shares differ by about a per cent of themselves, small
    ones by tens of per cent, and the contrast by up to a twentieth.
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    wants: ClassVar[tuple[str, ...]] = ("received",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        source = "column means of the maps in CLIPtrase (ECCV 2024), Fig 2"
        return (
            Variable("received_attention", MAPS, "1", "attention received, mean over patch queries", source),
            Variable("stripe_contrast", HEADS, "1", "largest over median received attention", "ours"),
        )

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        patches = view.layout.patches(_statistics(view, "received"), dim=2)
        return {
            "received_attention": view.layout.to_map(patches, dim=2),
            "stripe_contrast": stripe_contrast(patches),
        }


@dataclass(frozen=True, kw_only=True)
class PrefixAttention(Measure):
    """Attention that the class token and each register receive: the column mean over patch queries, per head.

    Unit: share of a row. Source: Darcet et al. 2024, arXiv:2309.16588 (registers take the outliers' part).

    Extreme values: finite for finite queries and keys. Products of queries and keys beyond fp32 are made in double
    precision. In bf16 it moves by up to a twentieth of itself.
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    wants: ClassVar[tuple[str, ...]] = ("received",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "head", "prefix")
        return (Variable("prefix_attention", dims, "1", "attention received by prefix tokens", "arXiv:2309.16588"),)

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return None if layout.prefix else "the model has no prefix tokens"

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return {"prefix": np.arange(layout.prefix)}

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"prefix_attention": _statistics(view, "received")[..., : view.layout.prefix]}


@dataclass(frozen=True, kw_only=True)
class AttentionEntropy(Measure):
    """Entropy of the attention rows, mean over all queries, per head.

    Unit: nat; 0 is one key, ln T is even. Source: Zhai et al. 2023, arXiv:2303.06296, Sec 3.

    Extreme values: 0 where each query has one key, finite for finite queries and keys. Products of queries and keys
    beyond fp32 are made in double precision. In bf16 it is comparable to about a per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    wants: ClassVar[tuple[str, ...]] = ("entropy",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (Variable("attention_entropy", HEADS, "nat", "mean entropy of attention rows", "arXiv:2303.06296"),)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"attention_entropy": _statistics(view, "entropy")}


@dataclass(frozen=True, kw_only=True)
class RankOneShare(Measure):
    """Share of the patch-patch map that one column times one row explains, per head.

    Unit: 1; 1 where every query attends alike. Source: ours; stripes make a map nearly of rank one.

    Extreme values: NaN where fp32 leaves patches no attention at all, else finite. Products of queries and keys
    beyond fp32 are made in double precision. In bf16 it is comparable to about a per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    wants: ClassVar[tuple[str, ...]] = ("rank",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        return (Variable("rank_one_share", HEADS, "1", "share of the largest squared singular value", "ours"),)

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """One whole map in fp32."""
        return FLOAT * layout.tokens**2

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"rank_one_share": _statistics(view, "rank")}


@dataclass(frozen=True, kw_only=True)
class AttentionDistance(Measure):
    """Mean attention distance: pixels between query and key patch, weighted by attention, per head.

    Weights are renormalized over the patches. Unit: pixel of the network's input.
    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, Fig 7 and App D.7; leaving out the prefix tokens is our choice.

    Extreme values: NaN where a query leaves patches no attention in fp32, else at most the diagonal of the image.
    Products of queries and keys beyond fp32 are made in double precision. In bf16 it is comparable to about a per
    cent.
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    wants: ClassVar[tuple[str, ...]] = ("distance",)

    @property
    def variables(self) -> tuple[Variable, ...]:
        source = "arXiv:2010.11929, App D.7"
        return (Variable("attention_distance", HEADS, "pixel", "mean attention distance", source),)

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """The distances of all pairs of patches."""
        return FLOAT * layout.count**2

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        return {"attention_distance": _statistics(view, "distance")}


@dataclass(frozen=True, kw_only=True)
class QueryAttention(Measure):
    """Attention maps of chosen patches, for figures: one row of the map per query and head.

    `patches` are row-major numbers of patches from 0; empty means the center patch. `heads="mean"` averages the heads.
    Unit: share of the row. Source: CLIPtrase Fig 2 (its 90th patch), SC-CLIP Fig 2 a, SFP supplement Fig 1 b-c.

    Extreme values: finite for finite queries and keys. Products of queries and keys beyond fp32 are made in double
    precision. In bf16 shares differ by about a per cent of themselves, single ones by tens of per cent.
    """

    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    patches: tuple[int, ...] = ()
    heads: Literal["each", "mean"] = "each"

    @property
    def variables(self) -> tuple[Variable, ...]:
        source = "CLIPtrase (ECCV 2024), Fig 2"
        if self.heads == "mean":
            mean = ("image", "layer", "query", "row", "col")
            return (Variable("query_attention_mean", mean, "1", "attention of a patch, mean over heads", source),)
        dims = ("image", "layer", "head", "query", "row", "col")
        return (Variable("query_attention", dims, "1", "attention of a patch to each patch", source),)

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return outside_the_grid(self.patches, layout)

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return query_coordinate(self.patches, layout)

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        index = [view.layout.prefix + patch for patch in chosen_patches(self.patches, view.layout)]
        bias = view.recording.get("attention_bias", view.layer)
        rows = attention_rows(view["query"][:, :, index], view["key"], None if bias is None else bias[:, :, index])
        maps = view.layout.to_map(view.layout.patches(rows, dim=3), dim=3)
        if self.heads == "mean":
            return {"query_attention_mean": maps.mean(dim=1)}
        return {"query_attention": maps}


@dataclass(frozen=True, kw_only=True)
class AttentionMaps(Measure):
    """Whole attention maps, prefix tokens included. Large: T x T numbers for each head, layer and image.

    `heads="mean"` averages the heads. Rows are queries. Unit: share of the row.
    Source: CLIPtrase Fig 2, SFP supplement Fig 1 a.

    Extreme values: finite for finite queries and keys. Products of queries and keys beyond fp32 are made in double
    precision. In bf16 shares differ by about a per cent of themselves, single ones by tens of per cent.
    """

    # From queries and keys, so that maps of a bf16 backbone are in fp32 like all other measures.
    needs: ClassVar[tuple[str, ...]] = ATTENTION_PARTS
    heads: Literal["each", "mean"] = "each"

    @property
    def variables(self) -> tuple[Variable, ...]:
        source = "CLIPtrase (ECCV 2024), Fig 2"
        if self.heads == "mean":
            mean = ("image", "layer", "token", "key_token")
            return (Variable("attention_mean", mean, "1", "attention, mean over heads", source),)
        dims = ("image", "layer", "head", "token", "key_token")
        return (Variable("attention", dims, "1", "attention", source),)

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """The maps of all heads of a layer in fp32."""
        return FLOAT * heads * layout.tokens**2

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        weights = attention_rows(view["query"], view["key"], view.recording.get("attention_bias", view.layer))
        if self.heads == "mean":
            return {"attention_mean": weights.mean(dim=1)}
        return {"attention": weights}
