"""Do similar patches belong to the same class? ROC curve and AUC of cosine similarity between labeled patches.

Pairs i<j of patches of one image; the score is their cosine, a pair is positive if both have the same label. Patches
without a label take part in no pair. Over many images the pairs are pooled by adding up histograms, whose bins are
fine where cosines crowd: patches with a large part in common all have cosines near 1. Scores are held as the distance
1 - cosine in double precision, which keeps its digits there. How far the bins can be off is a number of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.measures.base import UNLABELED, LayerView, Measure, Variable
from diagnostics.measures.lengths import unit_vectors

SOURCE = "SC-CLIP, arXiv:2411.15869, Fig 4 and 8"

# What a pair is: 0 and 1 are also the rows of a histogram, in the order of the coordinate `relation`.
NO_PAIR, DIFFERENT, SAME = -1, 0, 1
RELATIONS = ("different", "same")

# What 1 - cosine is a multiple of in double precision, for cosines from -1 to 1.
UNIT = 2.0**-53

# Pairs held at once. Our choice: some tens of MB, and all of a batch at 14x14 patches.
PAIRS_AT_ONCE = 2**20

# Our choice: the bound of the pooled AUC's error is then below 3e-5 at each layer of ViT-Ti/16 and DINOv2-S/14 on 15
# images of VOC 2012, and below TOLERANCE for noise of width 64 with any part in common, up to cosines of 0.99999.
PAIR_BINS = 2**18
# Distances below it, 1e-12, share one bin: double precision has few digits left there. Features in fp32 have more than
# 1 - cosine in fp32, which ends at 6e-8; SC-CLIP's aggregated ones make use of it. LOG_PART of the bins are even in the
# logarithm of the distance, the rest in the distance. Our choice, both.
NEAREST = 2.0**-40
LOG_PART = 0.85
# The error of a pooled AUC that goes without a word. Our choice: a unit of the fourth digit.
TOLERANCE = 1e-4
# Points of the pooled curve that are kept, and names of its two rates.
POINTS = 1000
RATES = ("fpr", "tpr")


class Pairs(NamedTuple):
    """Pairs of patches of each image: distance, 1 - cosine, (B, P) in double precision, from 0 to 2; and relation
    (B, P), one of NO_PAIR, DIFFERENT, SAME."""

    distance: Tensor
    relation: Tensor


class PooledAuc(NamedTuple):
    """What a pooled histogram says: the AUC, how far it can be from that of all pairs one by one, and the curve.

    `auc` and `error` have the histogram's leading shape (…). `fpr` and `tpr` (…, bins + 1) are those of
    `roc_from_histogram`.
    """

    auc: np.ndarray
    error: np.ndarray
    fpr: np.ndarray
    tpr: np.ndarray


def _pair_blocks(patches: Tensor, labels: Tensor) -> Iterator[Pairs]:
    """All pairs i<j, some rows i at a time, so that the (B, N, N) similarity of a large image is never whole.

    A patch with NaN or infinity takes part in no pair.
    """
    labels = labels.to(patches.device).masked_fill(~_finite(patches), UNLABELED)
    unit = unit_vectors(patches.double())
    count = patches.shape[1]
    rows = max(1, PAIRS_AT_ONCE // (count * len(patches)))
    for start in range(0, count - 1, rows):
        block, after = slice(start, start + rows), slice(start, None)
        i, j = torch.triu_indices(min(rows, count - start), count - start, 1, device=patches.device)
        cosine = (unit[:, block] @ unit[:, after].mT).flatten(1).index_select(1, i * (count - start) + j)
        left, right = labels[:, block].index_select(1, i), labels[:, after].index_select(1, j)
        relation = torch.where(left == right, SAME, DIFFERENT).to(torch.int8)
        # Rounding may leave [-1, 1]: copies are at distance 0.
        distance = (1 - cosine).clamp_(0, 2)
        yield Pairs(distance, relation.masked_fill((left == UNLABELED) | (right == UNLABELED), NO_PAIR))


def _finite(patches: Tensor) -> Tensor:
    """Patches without NaN or infinity: (B, N, D) -> (B, N) bool. A sum of doubles is finite where all its terms are."""
    return patches.sum(dim=-1, dtype=torch.float64).isfinite()


def _all_pairs(patches: Tensor, labels: Tensor) -> Pairs:
    """All pairs i<j at once, P = N(N-1)/2."""
    none = patches.new_zeros(len(patches), 0, dtype=torch.float64)
    blocks = [Pairs(none, none.to(torch.int8)), *_pair_blocks(patches, labels)]
    return Pairs(torch.cat([block.distance for block in blocks], dim=1), torch.cat([b.relation for b in blocks], dim=1))


def _bin_place(distance: Tensor) -> Tensor:
    """Where a distance, 1 - cosine, lies on the axis of the bins: 0…2 -> 0…1, rising.

    A part of the axis is even in the distance, which serves cosines far from 1; the other is even in its logarithm from
    NEAREST on, which serves those near 1, whatever the patches have in common.
    """
    logarithm = (distance.clamp_min(NEAREST) / NEAREST).log2() / math.log2(2 / NEAREST)
    return (1 - LOG_PART) * distance / 2 + LOG_PART * logarithm


def _add_to_histogram(total: Tensor, pairs: Pairs) -> None:
    """Adds the pairs (B, P) of all images to counts by relation and bin (2, bins) int64, most similar pairs last."""
    bins = total.shape[1]
    bin_of = bins - 1 - (_bin_place(pairs.distance) * bins).long().clamp_(0, bins - 1)
    # Pairs that are none add 0 to a bin of the first row: cheaper than picking the others out.
    place = pairs.relation.long().clamp_min(0).mul_(bins).add_(bin_of)
    total.view(-1).scatter_add_(0, place.flatten(), (pairs.relation != NO_PAIR).long().flatten())


def _exact_auc(pairs: Pairs) -> Tensor:
    """AUC of each image's pairs, ties counted half: (B, P) -> (B)."""
    if not pairs.distance.shape[1]:
        return pairs.distance.new_full((len(pairs.distance),), torch.nan, dtype=torch.float32)
    # 1 - cosine is a multiple of UNIT, so score and relation fit into one whole number: sorting those carries the
    # relation along. Its lowest bits are the relation; the score is all of them but those.
    key = ((pairs.distance.neg() / UNIT).long() * 4 + (pairs.relation.long() + 1)).sort(dim=1).values
    relation, score = (key & 3) - 1, key >> 2
    same, different = relation == SAME, relation == DIFFERENT
    # Different pairs up to each place: before the first pair of the same score, and up to the last one. Their mean
    # counts a tie half, which is what mid-ranks do; sums of integers are exact.
    below = different.cumsum(dim=1, dtype=torch.int32)
    tied = score[:, 1:] == score[:, :-1]
    before, upto = below - different.int(), below.clone()
    before[:, 1:].masked_fill_(tied, 0)
    upto[:, :-1].masked_fill_(tied, torch.iinfo(torch.int32).max)
    before, upto = before.cummax(dim=1).values, upto.flip(1).cummin(dim=1).values.flip(1)
    wins = (before.long() + upto).mul_(same).sum(dim=1)
    # As doubles: a large image has more combinations than fp32 counts exactly.
    return (wins.double() / (2.0 * same.sum(dim=1) * different.sum(dim=1).double())).float()


def _whole(patches: Tensor, labels: Tensor) -> Tensor:
    """Images whose labeled patches are all finite: (B) bool."""
    return (_finite(patches) | (labels.to(patches.device) == UNLABELED)).all(dim=1)


def pair_histogram(patches: Tensor, labels: Tensor, *, bins: int = PAIR_BINS) -> Tensor:
    """Counts of pairs i<j of all images by similarity: (B, N, D), (B, N) int -> (2, bins) int64.

    [0] counts pairs of different classes, [1] of the same class. Bins ascend in similarity and cover cosines from -1
    to 1: LOG_PART of them evenly in the logarithm of 1 - cosine, down to NEAREST, the others evenly in the cosine.
    Patches labeled UNLABELED, and such with NaN or infinity, take part in no pair. Rows of the similarity are made
    some at a time, so large images fit; histograms of images, batches and grids add up.
    Source: SC-CLIP, Fig 4 and 8; pairs i<j of one image, pooled over images by the histogram, is our reading.
    """
    total = torch.zeros(2, bins, dtype=torch.int64, device=patches.device)
    for pairs in _pair_blocks(patches, labels):
        _add_to_histogram(total, pairs)
    return total


def pair_auc(patches: Tensor, labels: Tensor) -> Tensor:
    """Exact AUC of cosine as a score of «same class», each image on its own: (B, N, D), (B, N) int -> (B), in [0, 1].

    0.5 is chance; ties count half. NaN where no pair has the same class, or none differs, or a labeled patch is not
    finite. Patches labeled UNLABELED take part in no pair. Source: SC-CLIP, Fig 4 and 8.
    """
    return _exact_auc(_all_pairs(patches, labels)).where(_whole(patches, labels), torch.nan)


def roc_from_histogram(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rate as the threshold falls from +inf to -1: (…, 2, bins) -> two (…, bins + 1).

    Both start at 0 and end at 1; entry k counts the k highest bins. A rate of no pairs is nan.
    """
    counts = np.cumsum(np.asarray(histogram)[..., ::-1], axis=-1, dtype=np.float64)
    counts = np.concatenate([np.zeros_like(counts[..., :1]), counts], axis=-1)
    total = counts[..., -1:]
    rates = np.divide(counts, total, out=np.full_like(counts, np.nan), where=total > 0)
    return rates[..., DIFFERENT, :], rates[..., SAME, :]


def auc_from_histogram(histogram: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of a histogram, pairs of one bin counted as ties: (…, 2, bins) -> (…), in [0, 1].

    NaN where one relation has no pairs.
    """
    return pooled_auc(histogram).auc


def pooled_auc(histogram: np.ndarray) -> PooledAuc:
    """AUC of a histogram, pairs of one bin counted as ties, with the bound of its error: (…, 2, bins).

    The pairs of one bin may in truth stand in any order, which moves the area by at most half of the product of their
    two shares; `error` is the sum over bins. True ties, such as between copies, count in it, though half is right for
    them. NaN where one relation has no pairs.
    """
    fpr, tpr = roc_from_histogram(histogram)
    different, same = np.diff(fpr, axis=-1), np.diff(tpr, axis=-1)
    area = np.asarray(np.sum(different * (tpr[..., 1:] + tpr[..., :-1]) / 2, axis=-1))
    return PooledAuc(area, np.asarray((different * same).sum(axis=-1) / 2), fpr, tpr)


def _distance_at(place: np.ndarray) -> np.ndarray:
    """The distance at a place on the axis of the bins, by halving: what `_bin_place` takes to `place`."""
    low, high = np.full(place.shape, np.log2(NEAREST)), np.full(place.shape, 1.0)
    for _ in range(50):
        middle = (low + high) / 2
        above = _bin_place(torch.from_numpy(2.0**middle)).numpy() > place
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return 2.0**high


def pooled(histogram: np.ndarray) -> dict[str, np.ndarray]:
    """What the histogram of a whole run says, (L, 2, bins): the values of `POOLED`, by name.

    `roc[:, k]` is (fpr, tpr) when pairs at most `roc_distance[:, k]` apart, by 1 - cosine, count as the same class. Of
    the histogram's cuts those are kept at which the sum of both rates is nearest above even steps, POINTS of them. The
    curve runs from (1, 1) down; its other end (0, 0), where no pair counts, is left out.
    """
    curves = pooled_auc(histogram)
    bins = histogram.shape[-1]
    roc, distance = [], []
    for fpr, tpr in zip(curves.fpr, curves.tpr, strict=True):
        both = np.nan_to_num(fpr) + np.nan_to_num(tpr)
        wanted = both[-1] * np.arange(POINTS, 0, -1) / POINTS
        # A last step of rounding alone must not ask for more than all bins.
        cut = np.searchsorted(both, wanted * (1 - 1e-12)).clip(max=bins)
        roc.append(np.stack([fpr[cut], tpr[cut]], axis=-1))
        distance.append(np.where(both[-1] > 0, _distance_at(cut / bins), np.nan))
    return {
        "auc_pooled": curves.auc,
        "auc_pooled_error": curves.error,
        "roc": np.stack(roc),
        "roc_distance": np.stack(distance),
    }


# What the pairs of all images together say; made at the end of a labeled run.
POOLED = (
    Variable("auc_pooled", ("layer",), "1", "AUC of same-class pairs of all images", SOURCE),
    Variable("auc_pooled_error", ("layer",), "1", "most that auc_pooled can be off by its bins", "ours"),
    Variable("roc", ("layer", "bin", "rate"), "1", "ROC of same-class pairs of all images", SOURCE),
    Variable("roc_distance", ("layer", "bin"), "1", "1 - cosine up to which pairs count as the same class", "ours"),
)


def coarse(error: float) -> str | None:
    """What to say of a pooled AUC that its bins may put off by more than TOLERANCE, or None."""
    if not error > TOLERANCE:
        return None
    return (
        f"the pooled AUC may be off by {error:.1g}, above {TOLERANCE:g}: many pairs of patches are equally similar to "
        "the digits of the histogram's bins. Take more bins (`auc:pair_bins=1000000`), or `auc`, which is exact and "
        "of each image"
    )


@dataclass(frozen=True, kw_only=True)
class SameClassAuc(Measure):
    """AUC of patch similarity as a score of «same class», per image, and the pairs' histogram for pooling images.

    Pairs i<j of labeled patches of one image, by cosine of what leaves the block, in double precision. `auc` is exact,
    and NaN where an image has but one kind of pair. `pair_histogram`, summed over images, has `pair_bins` bins, fine
    near cosines of 1, and makes the pooled numbers: `auc_pooled`, which is off by at most `auc_pooled_error`; `roc`;
    and `roc_distance`.
    Source: SC-CLIP, arXiv:2411.15869, Fig 4 and 8; pairs within an image and i<j are our reading.

    Extreme values: only directions count, so any length is right; equal tokens, or all 0, tie all pairs: 0.5. In
    bf16 the AUC is comparable to some 1e-3; the histogram is not, its bins are finer than the rounding.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    pair_bins: int = PAIR_BINS

    def __post_init__(self) -> None:
        if self.pair_bins < 2:
            raise ValueError(f"`pair_bins` should be at least 2, bins of the pairs' similarity; got {self.pair_bins}.")

    @property
    def variables(self) -> tuple[Variable, ...]:
        # Without `image`: summed over the images of a batch, and over batches where a run keeps it.
        dims = ("layer", "relation", "pair_bin")
        return (
            Variable("auc", ("image", "layer"), "1", "AUC of same-class pairs, of each image", SOURCE),
            Variable("pair_histogram", dims, "1", "pairs of patches by similarity, over images", SOURCE, "int64"),
        )

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return None if labeled else "there are no label maps to say which patches share a class"

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        return {"relation": np.array(RELATIONS), "pair_bin": np.arange(self.pair_bins)}

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        if view.labels is None:
            raise ValueError("`labels` should be (B, N) patch labels; got None. Give the probe label maps.")
        patches, labels = view.patches("block_out"), view.labels
        count = patches.shape[1]
        at_once = max(1, 2 * PAIRS_AT_ONCE // (count * count))  # images at once
        exact = []
        total = torch.zeros(2, self.pair_bins, dtype=torch.int64, device=patches.device)
        for images in range(0, len(patches), at_once):
            pairs = _all_pairs(patches[images : images + at_once], labels[images : images + at_once])
            exact.append(_exact_auc(pairs))
            _add_to_histogram(total, pairs)
        return {"auc": torch.cat(exact).where(_whole(patches, labels), torch.nan), "pair_histogram": total}
