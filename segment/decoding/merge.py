"""Score maps of an image's windows as one map of the image, made tile by tile when somebody looks."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.layout import Padding
from segment.decoding.windows import Span, WindowGrid

# Bytes of scores that are made at once. Our choice: large enough for fast products, small beside a model's weights.
TILE_BYTES = 32 * 2**20


class ScoreTile(NamedTuple):
    """Scores of some queries in one rectangle of the image: values (q, h, w); `queries` None means all."""

    rows: slice
    cols: slice
    queries: Tensor | None
    values: Tensor


class ScoreMaps(ABC):
    """Scores of every query at every pixel of an image, in blocks, so that they never exist all at once.

    `size` is the image's own (height, width); `owners` (Q) int64 is the class of each query; `scored` (H, W) bool is
    False where no window looked.
    """

    size: tuple[int, int]
    owners: Tensor
    scored: Tensor

    @abstractmethod
    def blocks(self, queries: Tensor | None = None) -> Iterator[ScoreTile]:
        """All pixels of all queries, or of the chosen ones in their order, each once. Values may be overwritten."""

    def whole(self, queries: Tensor | None = None) -> Tensor:
        """Everything in one tensor: (Q, H, W), as large as it is."""
        chosen = torch.arange(len(self.owners)) if queries is None else queries.cpu()
        scores = torch.empty(len(chosen), *self.size, device=self.owners.device)
        place = {int(query): number for number, query in enumerate(chosen)}
        for rows, cols, part, values in self.blocks(chosen.to(self.owners.device)):
            if part is None or len(part) == len(chosen):
                scores[:, rows, cols] = values
            else:
                scores[[place[int(query)] for query in part], rows, cols] = values
        return scores


@dataclass(frozen=True, kw_only=True)
class Merged(ScoreMaps):
    """Score maps of all windows of one image, kept at their own resolution.

    Each window's map is stretched to the window (bilinear, pixel centers aligned), windows are summed and divided by
    how many lie over a pixel, and the result is stretched to the image's own size. All of that is linear and acts on
    rows and columns apart, so any rectangle of the result is a product of three small matrices:
    vertical (H, K) · maps (Q, K, M) · horizontal (W, M)ᵀ, K and M counting the rows and columns of all windows' maps.
    Products are made in double precision and rounded to single, so that a score does not depend on its rectangle, and
    what is equal stays equal (the order in which a library adds is that of its blocks).
    The outer two and `scored` are on the CPU. Integer maps (1, K, M) are labels, and stand for (C, K, M) of ones and
    zeros.
    """

    maps: Tensor
    vertical: Tensor
    horizontal: Tensor
    owners: Tensor
    scored: Tensor
    tile_bytes: int = TILE_BYTES

    @property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        return self.vertical.shape[0], self.horizontal.shape[0]

    def blocks(self, queries: Tensor | None = None) -> Iterator[ScoreTile]:
        labels = not self.maps.is_floating_point()
        chosen = torch.arange(len(self.owners), device=self.maps.device) if queries is None else queries
        maps = self.maps if labels or queries is None else self.maps[queries]
        height, width = self.size
        # A score in double precision, and rounded.
        pixels = max(1, self.tile_bytes // (12 * max(1, len(chosen))))
        # Nearly square tiles look at the fewest windows.
        side = max(1, math.isqrt(pixels))
        across = width if pixels >= height * width else min(width, side)
        down = min(height, max(1, pixels // across))
        for rows in _steps(height, down):
            vertical, near = _used(self.vertical[rows])
            for cols in _steps(width, across):
                horizontal, beside = _used(self.horizontal[cols])
                near_by = maps[:, near, beside]
                if labels:
                    near_by = near_by == chosen.to(near_by)[:, None, None]
                near_by = near_by.to(_product_dtype(near_by))
                values = vertical.to(near_by) @ (near_by @ horizontal.to(near_by).mT)
                yield ScoreTile(rows, cols, queries, values.float())


def _product_dtype(maps: Tensor) -> torch.dtype:
    return torch.float32 if maps.device.type == "mps" else torch.float64  # Apple's GPU has no double precision


def _steps(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _used(weights: Tensor) -> tuple[Tensor, slice]:
    """The columns from the first to the last that is not all zero, and where they are."""
    used = weights.ne(0).any(dim=0).nonzero()
    columns = slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)
    return weights[:, columns], columns


@functools.lru_cache(maxsize=16)
def merge_weights(spans: tuple[Span, ...], cells: int, before: int, after: int, shown: int, size: int) -> Tensor:
    """How maps of windows along one side add up to the image's own pixels: (size, len(spans)·cells + 1).

    A window's map has `cells` cells over the window and `before` + `after` pixels of padding. Windows lie on `shown`
    pixels. The last column is the share of the pixel's two neighbors that a window covers: rows with any share are
    divided by it, so that pixels at the rim of a center crop take the nearest score that there is.
    """
    length = spans[0].stop - spans[0].start
    # The library's own weights, from its interpolation of the identity; in double precision, since places are
    # computed in that of the values.
    stretched = _stretched(torch.eye(cells, dtype=torch.float64), before + length + after)[before : before + length]
    placed = torch.zeros(shown, len(spans) * cells, dtype=torch.float64)
    hits = torch.zeros(shown)
    for number, (start, stop) in enumerate(spans):
        placed[start:stop, number * cells : (number + 1) * cells] = stretched
        hits[start:stop] += 1
    placed /= hits.clamp_min(1)[:, None]
    weights = _stretched(torch.cat([placed, hits.gt(0).double()[:, None]], dim=1), size)
    if not hits.all():
        weights[:, :-1] /= weights[:, -1:].clamp_min(torch.finfo(weights.dtype).eps)
    return weights.float()


def _stretched(columns: Tensor, size: int) -> Tensor:
    """Bilinear along the first dimension, pixel centers aligned: (n, k) -> (size, k)."""
    if columns.shape[0] == size:
        return columns
    shape = (size, columns.shape[1])
    return F.interpolate(columns[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]


@functools.lru_cache(maxsize=16)
def stretch_weights(cells: int, size: int) -> Tensor:
    """The matrix that stretches `cells` values along one side to `size` pixels, bilinearly: (size, cells)."""
    return _stretched(torch.eye(cells, dtype=torch.float64), size).float()


class ScoreAccumulator:
    """Collects the score maps of one image's windows as they come, in any order, into a `Merged`."""

    def __init__(self, places: WindowGrid, size: tuple[int, int]) -> None:
        self.places, self.size = places, size
        self.missing = places.count
        self.by_class = False
        self._maps: Tensor | None = None
        self._padding = Padding(0, 0, 0, 0)

    def add(self, number: int, maps: Tensor, padding: Padding, *, by_class: bool = False) -> None:
        """The maps (Q, rows, cols) of window `number`, which cover it and its padding; `by_class` as in Scores."""
        down, along = len(self.places.rows), len(self.places.cols)
        queries, rows, cols = maps.shape
        if self._maps is None:
            dtype = torch.float32 if maps.is_floating_point() else torch.int32
            self._maps = maps.new_empty(queries, down, rows, along, cols, dtype=dtype)
            self._padding, self.by_class = padding, by_class
        self._maps[:, number // along, :, number % along] = maps
        self.missing -= 1

    def merged(self, owners: Sequence[int] | Tensor) -> Merged:
        """All windows together; `owners` is the class of each query."""
        if self._maps is None or self.missing:
            raise ValueError(f"{self.missing} of the image's {self.places.count} windows are missing.")
        maps, pad = self._maps, self._padding
        (height, width), (shown_height, shown_width) = self.size, self.places.size
        vertical = merge_weights(self.places.rows, maps.shape[2], pad.top, pad.bottom, shown_height, height)
        horizontal = merge_weights(self.places.cols, maps.shape[4], pad.left, pad.right, shown_width, width)
        # A pixel is scored where the nearer of its neighbors is.
        scored = vertical[:, -1].ge(0.5)[:, None] & horizontal[:, -1].ge(0.5)[None]
        return Merged(
            maps=maps.flatten(3, 4).flatten(1, 2),
            vertical=vertical[:, :-1],
            horizontal=horizontal[:, :-1],
            owners=torch.as_tensor(owners, device=maps.device),
            scored=scored,
        )
