"""Label propagation over a coarse grid, steered by edges of color and by the words: PEARL's last step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.check_numbers import check_iterations
from segment.decoding.merge import TILE_BYTES, Merged, ScoreMaps, stretch_weights
from segment.decoding.refine.base import Canvas, Refiner
from segment.method import TextFeatures, check_words

Affinity = Literal["released", "printed"]

# PGSmall/PEARL c26062b, all of these.
TEXT_TEMPERATURE = 0.5  # of the softmax over cosines of words
SELF_WEIGHT = 10.0  # what each word adds for itself
LEAST_CONFIDENCE = 0.05
EDGE_SHARPNESS = 5.0
GRAY = (0.299, 0.587, 0.114)
EPSILON = 1e-6


def word_affinity(features: Tensor) -> Tensor:
    """How near words are to each other: unit rows (Q, E) -> (Q, Q), rows adding to 1.

    row-softmax(cosine / 0.5) + 10·I, rows divided by their sum. Source: PGSmall/PEARL c26062b.
    """
    unit = F.normalize(features.float(), dim=-1)
    near = (unit @ unit.mT / TEXT_TEMPERATURE).softmax(dim=-1)
    near = near + SELF_WEIGHT * torch.eye(len(near), device=near.device)
    return near / (near.sum(dim=-1, keepdim=True) + EPSILON)


def agreement(first: Tensor, second: Tensor, near: Tensor, affinity: Affinity) -> Tensor:
    """How far two distributions over words mean the same: two (Q, …) and (Q, Q) -> (…), in [0, 1].

    `printed`: pᵀ·G·p'. `released`: Σ_c G_cc·p_c·p'_c, for the released contraction repeats one index, so that words
    which are near each other but not the same do not help each other.
    """
    if affinity == "released":
        near_first = near.diagonal().view(-1, *(1,) * (first.ndim - 1)) * first
    else:
        near_first = torch.einsum("qc,q...->c...", near, first)
    return (near_first * second).sum(dim=0).clamp(0, 1)


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """A grid with a weight for each link: `right` (rows, cols-1), `down` (rows-1, cols), `confidence` (rows, cols)."""

    right: Tensor
    down: Tensor
    confidence: Tensor

    def apply(self, maps: Tensor) -> Tensor:
        """(diag C + L)·X for every map: (Q, rows, cols) -> the same."""
        result = self.confidence * maps
        across = self.right * (maps[:, :, 1:] - maps[:, :, :-1])
        result[:, :, :-1] -= across
        result[:, :, 1:] += across
        along = self.down * (maps[:, 1:] - maps[:, :-1])
        result[:, :-1] -= along
        result[:, 1:] += along
        return result


def propagate(scores: Tensor, graph: _Graph, iterations: int) -> Tensor:
    """(diag C + L)·X = C·scores by conjugate gradients from the scores on: (Q, rows, cols) -> the same.

    Dot products run over everything, so that all maps take steps of one length, as released.
    """
    solution = scores
    residual = graph.confidence * scores - graph.apply(solution)
    direction, size = residual, residual.square().sum()
    for _ in range(iterations):
        if not size > 0:  # it is solved
            break
        product = graph.apply(direction)
        length = size / (direction * product).sum().clamp_min(torch.finfo(size.dtype).tiny)
        solution = solution + length * direction
        residual = residual - length * product
        before, size = size, residual.square().sum()
        direction = residual + size / before * direction
    return solution


@dataclass(frozen=True, kw_only=True)
class Tlp(Refiner):
    """Scores spread over a coarse grid, from where words are sure to where colors do not change.

    Each side is pooled by a whole number of pixels so that about `grid` cells are left (the remainder is left out).
    With p the softmax of a cell's scores, without a scale, and G the words' nearness (`word_affinity`): a cell weighs
    C = max(p, 0.05)² · (1 + u), u the agreement of p with itself; neighbors are linked by exp(-5·g) · (1 + the
    agreement of their p), at most 1, g the step of gray between them over the mean of such steps. X solves
    (diag C + Laplacian)·X = C·scores, by `iterations` conjugate-gradient steps, and is stretched to the image.
    `affinity`: see `agreement`.

    Words come with the image (`Canvas.text`); scores by class take the mean of the class's words. Cells that no window
    looked at weigh nothing.
    Source: Pei et al., PEARL, CVPR 2026; PGSmall/PEARL c26062b (`grid` 80; 224 on Cityscapes).
    """

    grid: int = 80
    iterations: int = 25
    affinity: Affinity = "released"

    def __post_init__(self) -> None:
        check_words(self)
        check_iterations("iterations", self.iterations, hint="in the release 25")
        if self.grid < 1:
            raise ValueError(f"`grid` of the refiner `tlp` should be at least 1 cell a side; got {self.grid}.")

    def scores(self, scores: ScoreMaps, canvas: Canvas) -> ScoreMaps:
        if not self.iterations:
            return scores
        if canvas.text is None:
            raise ValueError(
                "the refiner `tlp` reads the words that were scored, and this canvas has none. Give them: "
                "Canvas(…, text=text_features(backbone, words)); a Segmenter does so itself."
            )
        features = _features_of(scores, canvas.text)
        height, width = scores.size
        steps = tuple(max(1, round(side / self.grid)) for side in scores.size)
        pooled = _pooled(scores, steps)
        image = F.interpolate(canvas.shown[None].float(), size=scores.size, mode="bilinear", align_corners=False)
        colors = F.avg_pool2d(image.to(pooled.device), steps)[0]
        looked_at = F.avg_pool2d(scores.scored[None, None].float(), steps)[0, 0].to(pooled.device) >= 0.5
        graph = _graph(pooled, colors, word_affinity(features.to(pooled.device)), looked_at, self.affinity)
        maps = propagate(pooled, graph, self.iterations)
        return Merged(
            maps=maps,
            vertical=stretch_weights(maps.shape[1], height),
            horizontal=stretch_weights(maps.shape[2], width),
            owners=scores.owners,
            scored=scores.scored,
        )


def _features_of(scores: ScoreMaps, text: TextFeatures) -> Tensor:
    """Unit features of what the maps score, queries or classes: (Q, E)."""
    if len(scores.owners) == len(text.owners):
        return text.features
    owners = text.owners.to(text.features.device)
    sums = torch.zeros(len(text.names), text.features.shape[1], device=owners.device)
    return F.normalize(sums.index_add(0, owners, text.features.float()), dim=-1)


def _pooled(scores: ScoreMaps, steps: tuple[int, ...]) -> Tensor:
    """Means of whole cells, some queries at a time: (Q, rows, cols)."""
    height, width = scores.size
    queries = torch.arange(len(scores.owners), device=scores.owners.device)
    parts = queries.split(max(1, TILE_BYTES // (4 * height * width)))
    return torch.cat([F.avg_pool2d(scores.whole(part)[None].float(), steps)[0] for part in parts])


def _graph(scores: Tensor, colors: Tensor, near: Tensor, looked_at: Tensor, affinity: Affinity) -> _Graph:
    """The links and weights of the cells: scores (Q, rows, cols), colors (3, rows, cols), `near` (Q, Q)."""
    p = scores.softmax(dim=0)
    certain = p.amax(dim=0).clamp_min(LEAST_CONFIDENCE).square()
    gray = torch.einsum("c,chw->hw", colors.new_tensor(GRAY), colors)

    def links(dim: int) -> Tensor:
        """Weights between cells that follow each other along rows (0) or columns (1)."""
        count = gray.shape[dim] - 1
        step = gray.diff(dim=dim).abs()
        step = step / (step.mean() + EPSILON) if step.numel() else step
        same = agreement(p.narrow(dim + 1, 0, count), p.narrow(dim + 1, 1, count), near, affinity)
        return ((-EDGE_SHARPNESS * step).exp() * (1 + same)).clamp_max(1)

    confidence = certain * (1 + agreement(p, p, near, affinity)) * looked_at
    return _Graph(right=links(1), down=links(0), confidence=confidence)
