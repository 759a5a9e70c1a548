"""PAMR: each pixel's scores become the mean of its neighbors', weighted by how alike their colors are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.check_numbers import check_iterations
from segment.decoding.merge import TILE_BYTES, ScoreMaps, ScoreTile
from segment.decoding.refine.base import Canvas, Refiner

# Of the neighborhood's standard deviation, how unlike a color is by one unit. Source: visinf/1-stage-wseg, `pamr.py`,
# as SCLIP and NACLIP ship it.
SHARE_OF_DEVIATION = 0.1
TINY = 1e-8  # source: the same; keeps flat neighborhoods finite


def _offsets(dilations: Sequence[int]) -> list[tuple[int, int]]:
    """The eight neighbors at every dilation, as (down, along)."""
    return [
        (down * dilation, along * dilation)
        for dilation in dilations
        for down in (-1, 0, 1)
        for along in (-1, 0, 1)
        if down or along
    ]


class _Shifted:
    """Maps (…, h, w) looked at from every pixel's neighbors; beyond the border the nearest pixel stands in."""

    def __init__(self, maps: Tensor, reach: int) -> None:
        self.height, self.width = maps.shape[-2:]
        self.reach = reach
        flat = maps.reshape(-1, 1, self.height, self.width)
        self.padded = F.pad(flat, (reach,) * 4, mode="replicate").unflatten(0, maps.shape[:-2])[..., 0, :, :]

    def __call__(self, down: int, along: int) -> Tensor:
        top, left = self.reach + down, self.reach + along
        return self.padded[..., top : top + self.height, left : left + self.width]


def pamr_weights(images: Tensor, dilations: Sequence[int]) -> Tensor:
    """How much each neighbor counts: (B, 3, h, w) -> (B, 8·len(dilations), h, w), at each pixel adding to 1.

    softmax over neighbors of -mean over channels of |I(p) - I(n)| / (1e-8 + 0.1·σ), σ the standard deviation (n - 1)
    of the channel over the neighborhood, in which the pixel itself counts once per dilation.
    """
    offsets = _offsets(dilations)
    look = _Shifted(images, max(dilations))
    samples = 9 * len(dilations)
    # Two passes, mean first: squares of large values would cancel.
    mean = images * len(dilations)
    for offset in offsets:
        mean = mean + look(*offset)
    mean /= samples
    squares = (images - mean).square() * len(dilations)
    for offset in offsets:
        squares += (look(*offset) - mean).square()
    unlike = TINY + SHARE_OF_DEVIATION * (squares / (samples - 1)).sqrt()
    weights = images.new_empty(images.shape[0], len(offsets), *images.shape[-2:])
    for number, offset in enumerate(offsets):
        weights[:, number] = ((images - look(*offset)).abs() / unlike).mean(dim=1).neg_()
    # Nothing underflows: a neighborhood that lies t away from its middle has σ >= 0.31·t, so the largest is >= -32.
    weights.exp_()
    return weights.div_(weights.sum(dim=1, keepdim=True))


def pamr_steps(maps: Tensor, weights: Tensor, dilations: Sequence[int], iterations: int) -> Tensor:
    """`iterations` times the weighted mean of the neighbors, the pixel itself left out: (B, Q, h, w) -> the same."""
    offsets = _offsets(dilations)
    for _ in range(iterations):
        look = _Shifted(maps, max(dilations))
        maps = look(*offsets[0]) * weights[:, :1]
        for number, offset in enumerate(offsets[1:], 1):
            maps.addcmul_(look(*offset), weights[:, number : number + 1])
    return maps


def pamr(images: Tensor, maps: Tensor, *, iterations: int = 10, dilations: Sequence[int] = (8, 16)) -> Tensor:
    """Pixel-adaptive refinement: images (B, 3, h, w) and score maps (B, Q, H, W) -> score maps (B, Q, h, w).

    Maps of another size are stretched to the images' first (bilinear, corners aligned, as released). Normalized or
    not, images give the same: colors count relative to their spread.
    Source: Araslanov and Roth 2020, arXiv:2005.08104; visinf/1-stage-wseg `pamr.py` as shipped with SCLIP b56bd30.
    """
    _check(iterations, dilations)
    if images.ndim != 4 or maps.ndim != 4 or len(images) != len(maps):
        raise ValueError(
            "`images` should be (B, 3, h, w) and `maps` (B, Q, H, W) of as many images; got "
            f"{tuple(images.shape)} and {tuple(maps.shape)}. Add the dimension of the batch: images[None]."
        )
    if maps.shape[-2:] != images.shape[-2:]:
        maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=True)
    if not iterations:
        return maps
    return pamr_steps(maps.float(), pamr_weights(images.float(), dilations), dilations, iterations)


def _check(iterations: int, dilations: Sequence[int]) -> None:
    check_iterations("iterations", iterations, hint="such as 10 for pamr")
    if not dilations or min(dilations) < 1:
        raise ValueError(f"`dilations` of pamr should be distances of at least 1 pixel, such as 8+16; got {dilations}.")


@dataclass(frozen=True, kw_only=True)
class Pamr(Refiner):
    """Scores follow edges of color: `iterations` steps over neighbors at the `dilations`, in pixels of the image.

    The defaults are NACLIP's released configurations; the SCLIP line ships the same with 0 iterations. Scores are made
    in the image's own size for some queries at a time, so that memory holds for any number of them.
    """

    iterations: int = 10
    dilations: tuple[int, ...] = (8, 16)

    def __post_init__(self) -> None:
        _check(self.iterations, self.dilations)

    def scores(self, scores: ScoreMaps, canvas: Canvas) -> ScoreMaps:
        if not self.iterations:
            return scores
        # As released: the image that the network saw, stretched, and not the original.
        image = F.interpolate(canvas.shown[None].float(), size=scores.size, mode="bilinear", align_corners=False)
        weights = pamr_weights(image.to(scores.owners.device), self.dilations)
        return _Smoothed(scores, weights, self.dilations, self.iterations)


@dataclass(frozen=True)
class _Smoothed(ScoreMaps):
    """Scores after PAMR, made for some queries at a time."""

    inner: ScoreMaps
    weights: Tensor
    dilations: tuple[int, ...]
    iterations: int

    @property
    def size(self) -> tuple[int, int]:  # type: ignore[override]
        return self.inner.size

    @property
    def owners(self) -> Tensor:  # type: ignore[override]
        return self.inner.owners

    @property
    def scored(self) -> Tensor:  # type: ignore[override]
        return self.inner.scored

    def blocks(self, queries: Tensor | None = None) -> Iterator[ScoreTile]:
        height, width = self.size
        if queries is None:
            queries = torch.arange(len(self.owners), device=self.owners.device)
        # Maps of one step, of the next, and the padded ones live at once.
        for part in queries.split(max(1, TILE_BYTES // (4 * height * width))):
            maps = self.inner.whole(part)
            maps = pamr_steps(maps[None], self.weights, self.dilations, self.iterations)[0]
            yield ScoreTile(slice(0, height), slice(0, width), part, maps)
