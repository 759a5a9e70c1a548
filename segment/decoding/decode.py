"""From scores to labels, in one pass over blocks of pixels and queries: best class, its probability, and two rules."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diagnostics.measures.base import UNLABELED
from segment.decoding.merge import ScoreMaps
from segment.method import Decode

# The label of pixels that no window looked at.
UNSCORED = UNLABELED


class Labeled(NamedTuple):
    """labels (H, W) int64, UNSCORED where no window looked; confidence (H, W) float32, 0 there.

    The confidence is the probability of the likeliest class that the rule of areas left, before the threshold.
    """

    labels: Tensor
    confidence: Tensor


def check_decode(settings: Decode, background: int | None) -> None:
    """Refuses a threshold where there is no background class that pixels could become."""
    if settings.threshold and background is None:
        raise ValueError(
            f"`threshold` = {settings.threshold:g} turns pixels into background, and the vocabulary has none. Give it "
            "background words, or set threshold=0."
        )


def decode(scores: ScoreMaps, settings: Decode, *, background: int | None = None) -> Labeled:
    """Labels by the settings; what the released codes do with all scores in memory, done block by block.

    Probabilities are softmax(`scale` · score) over all queries; a class has the largest among its queries', and the
    lowest of equal classes wins. `smallest_area`: a foreground class with at most that share of all foreground pixels
    is out, and so is one without pixels; its pixels go to the best class left (our choice: where there is no background
    and no class would be left, all stay). Without a background every class is foreground. `threshold`: pixels whose
    best probability is below become background. Memory: a few maps (H, W), and one block.
    Source: wangf3014/SCLIP b56bd30, with a batch of one.
    """
    check_decode(settings, background)
    # Queries by class, so that the first of equals belongs to the lowest class.
    order = None if bool((scores.owners.diff() >= 0).all()) else scores.owners.argsort(stable=True)
    best = _best(scores, settings.scale, order, total=True)
    labels, confidence = scores.owners[best.query], best.total.reciprocal_()
    if settings.smallest_area:
        labels, confidence = _without_small(scores, settings, best, labels, confidence, background)
    if settings.threshold and background is not None:
        labels.masked_fill_(confidence < settings.threshold, background)
    unscored = ~scores.scored.to(labels.device)
    return Labeled(labels.masked_fill_(unscored, UNSCORED), confidence.masked_fill_(unscored, 0))


class _Best(NamedTuple):
    """The largest logit of each pixel, the query it belongs to (int32), and Σ exp(logit - largest)."""

    logit: Tensor
    query: Tensor
    total: Tensor


def _best(scores: ScoreMaps, scale: float, queries: Tensor | None, *, total: bool) -> _Best:
    device = scores.owners.device
    best = _Best(
        torch.full(scores.size, -torch.inf, device=device),
        torch.zeros(scores.size, dtype=torch.int32, device=device),
        torch.zeros(scores.size, device=device),
    )
    for rows, cols, chosen, values in scores.blocks(queries):
        values = values.mul_(scale)
        logit, place = values.max(dim=0)
        query = (place if chosen is None else chosen[place]).int()
        before = best.logit[rows, cols]
        higher = logit > before
        if total:
            # Each sum is kept relative to its own largest logit, so that nothing overflows.
            added = values.sub_(logit).exp_().sum(dim=0)
            top = torch.maximum(before, logit)
            best.total[rows, cols] = best.total[rows, cols] * (before - top).exp() + added * (logit - top).exp()
        best.query[rows, cols] = torch.where(higher, query, best.query[rows, cols])
        best.logit[rows, cols] = torch.maximum(before, logit)
    return best


def _without_small(
    scores: ScoreMaps, settings: Decode, best: _Best, labels: Tensor, confidence: Tensor, background: int | None
) -> tuple[Tensor, Tensor]:
    """Labels and confidence with the pixels of small classes given to the best class left."""
    classes = int(scores.owners.max()) + 1
    if background is not None:
        classes = max(classes, background + 1)
    scored = scores.scored.to(labels.device)
    areas = torch.bincount(labels[scored], minlength=classes)
    if background is not None:
        areas[background] = 0
    kept = areas > settings.smallest_area * areas.sum()
    if background is not None:
        kept[background] = True
    moving = ~kept[labels] & scored
    left = kept[scores.owners].nonzero()[:, 0]
    if not len(left) or not moving.any():
        return labels, confidence
    left = left[scores.owners[left].argsort(stable=True)]
    # Few classes are left, since each has more than the share asked for: the second pass is short.
    second = _best(scores, settings.scale, left, total=False)
    share = confidence * (second.logit - best.logit).exp()
    return torch.where(moving, scores.owners[second.query], labels), torch.where(moving, share, confidence)
