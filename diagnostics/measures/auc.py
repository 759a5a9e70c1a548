"""Do similar patches belong to the same class? ROC curve and AUC of cosine similarity between labeled patches.

Pairs i<j of patches of one image; the score is their cosine, a pair is positive if both have the same label. Patches
without a label take part in no pair. Over many images the pairs are pooled by adding up histograms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.layout import Layout
from diagnostics.measures.base import UNLABELED, LayerView, Measure, Variable

SOURCE = "SC-CLIP, arXiv:2411.15869, Fig 4 and 8"

# What a pair is: 0 and 1 are also the rows of a histogram, in the order of the coordinate `relation`.
NO_PAIR, DIFFERENT, SAME = -1, 0, 1
RELATIONS = ("different", "same")

# Pairs held at once. Our choice: some tens of MB, and all of a batch at 14x14 patches.
PAIRS_AT_ONCE = 2**20


class Pairs(NamedTuple):
    """Pairs of patches of each image: cosine (B, P) fp32, and relation (B, P), one of NO_PAIR, DIFFERENT, SAME."""

    cosine: Tensor
    relation: Tensor


def _pair_blocks(patches: Tensor, labels: Tensor) -> Iterator[Pairs]:
    """All pairs i<j, some rows i at a time, so that the (B, N, N) similarity of a large image is never whole.

    A patch with nan or infinity takes part in no pair.
    """
    patches, labels = patches.float(), labels.to(patches.device)
    count = patches.shape[1]
    norms = torch.linalg.vector_norm(patches, dim=-1)
    labels = labels.masked_fill(~norms.isfinite(), UNLABELED)
    unit = F.normalize(patches, dim=-1)
    rows = max(1, PAIRS_AT_ONCE // (count * len(patches)))
    for start in range(0, count - 1, rows):
        some, after = slice(start, start + rows), slice(start, None)
        i, j = torch.triu_indices(min(rows, count - start), count - start, 1, device=patches.device)
        cosine = (unit[:, some] @ unit[:, after].mT).flatten(1).index_select(1, i * (count - start) + j)
        left, right = labels[:, some].index_select(1, i), labels[:, after].index_select(1, j)
        relation = torch.where(left == right, SAME, DIFFERENT).to(torch.int8)
        yield Pairs(cosine, relation.masked_fill((left == UNLABELED) | (right == UNLABELED), NO_PAIR))


def _all_pairs(patches: Tensor, labels: Tensor) -> Pairs:
    """All pairs i<j at once, P = N(N-1)/2."""
    none = patches.new_zeros(len(patches), 0, dtype=torch.float32)
    blocks = [Pairs(none, none.to(torch.int8)), *_pair_blocks(patches, labels)]
    return Pairs(torch.cat([block.cosine for block in blocks], dim=1), torch.cat([b.relation for b in blocks], dim=1))


def _histogram(pairs: Pairs, bins: int) -> Tensor:
    """Counts by relation and cosine: (B, P) -> (B, 2, bins) int64."""
    # Clamped: a cosine of 1 belongs to the last bin, and rounding may leave [-1, 1]. Pairs that are none get a third
    # histogram in front, which is dropped: cheaper than picking the others out.
    bin_of = ((pairs.cosine + 1) * (bins / 2)).long().clamp_(0, bins - 1)
    images = torch.arange(len(bin_of), device=bin_of.device)[:, None]
    place = (images * 3 + pairs.relation + 1) * bins + bin_of
    return place.flatten().bincount(minlength=len(bin_of) * 3 * bins).view(-1, 3, bins)[:, 1:]


def _exact_auc(pairs: Pairs) -> Tensor:
    """AUC of each image's pairs, ties counted half: (B, P) -> (B)."""
    if not pairs.cosine.shape[1]:
        return pairs.cosine.new_full((len(pairs.cosine),), torch.nan)
    # Pairs that are none go last, where they stand below no pair.
    score, order = pairs.cosine.masked_fill(pairs.relation == NO_PAIR, torch.inf).sort(dim=1)
    relation = pairs.relation.gather(1, order)
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
    finite = torch.linalg.vector_norm(patches.float(), dim=-1).isfinite()
    return (finite | (labels.to(patches.device) == UNLABELED)).all(dim=1)


def pair_histogram(patches: Tensor, labels: Tensor, *, bins: int = 1000) -> Tensor:
    """Counts of pairs i<j of an image by cosine: (B, N, D), (B, N) int -> (B, 2, bins) int64.

    [:, 0] counts pairs of different classes, [:, 1] of the same class. `bins` equal bins cover [-1, 1]; a cosine on an
    edge belongs to the upper bin, 1 to the last one. Patches labeled UNLABELED, and such with nan or infinity, take
    part in no pair. Rows of the similarity are made some at a time, so large images fit.
    Source: SC-CLIP, Fig 4 and 8; pairs i<j of one image, pooled over images by the histogram, is our reading.
    """
    none = torch.zeros(len(patches), 2, bins, dtype=torch.int64, device=patches.device)
    return sum((_histogram(pairs, bins) for pairs in _pair_blocks(patches, labels)), none)


def pair_auc(patches: Tensor, labels: Tensor) -> Tensor:
    """Exact AUC of cosine as a score of «same class», each image on its own: (B, N, D), (B, N) int -> (B), in [0, 1].

    0.5 is chance; ties count half. nan where no pair has the same class, or none differs, or a labeled patch is not
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

    nan where one relation has no pairs.
    """
    fpr, tpr = roc_from_histogram(histogram)
    return np.asarray(np.sum(np.diff(fpr, axis=-1) * (tpr[..., 1:] + tpr[..., :-1]) / 2, axis=-1))


def pooled(histogram: np.ndarray) -> dict[str, np.ndarray]:
    """What the histogram of a whole run says, (L, 2, bins): `auc_pooled` (L) and `roc` (L, bins, 2).

    `roc[:, k]` is (fpr, tpr) when pairs of bin k and above count as the same class. Bins ascend, so the curve runs
    from (1, 1) down; its other end (0, 0), where no pair counts, is left out: `roc` has the bins of the histogram.
    """
    fpr, tpr = roc_from_histogram(histogram)
    roc = np.stack([fpr[..., :0:-1], tpr[..., :0:-1]], axis=-1)
    return {"auc_pooled": auc_from_histogram(histogram), "roc": roc}


@dataclass(frozen=True, kw_only=True)
class SameClassAuc(Measure):
    """AUC of patch similarity as a score of «same class», per image, and the pairs' histogram for pooling images.

    Pairs i<j of labeled patches of one image, by cosine of what leaves the block. `auc` is exact, and nan where an
    image has but one kind of pair; `pair_histogram` has `bins` equal bins on [-1, 1] and makes the pooled numbers.
    Source: SC-CLIP, arXiv:2411.15869, Fig 4 and 8; pairs within an image and i<j are our reading.
    """

    needs: ClassVar[tuple[str, ...]] = ("block_out",)
    bins: int = 1000  # our choice: on real images the pooled AUC is then within 1e-4 of the exact one

    def __post_init__(self) -> None:
        if self.bins < 2:
            raise ValueError(f"`bins` should be at least 2, bins of the cosine on [-1, 1]; got {self.bins}.")

    @property
    def variables(self) -> tuple[Variable, ...]:
        dims = ("image", "layer", "relation", "bin")
        return (
            Variable("auc", ("image", "layer"), "1", "AUC of same-class pairs, of each image", SOURCE),
            Variable("pair_histogram", dims, "1", "pairs of patches by cosine similarity", SOURCE, "uint32"),
        )

    def unsupported_reason(self, layout: Layout, *, labeled: bool) -> str | None:
        return None if labeled else "there are no label maps to say which patches share a class"

    def coordinates(self, layout: Layout) -> Mapping[str, np.ndarray]:
        centers = (np.arange(self.bins) + 0.5) * (2 / self.bins) - 1
        return {"relation": np.array(RELATIONS), "bin": centers}

    def measure(self, view: LayerView) -> dict[str, Tensor]:
        if view.labels is None:
            raise ValueError("`labels` should be (B, N) patch labels; got None. Give the probe label maps.")
        patches, labels = view.patches("block_out"), view.labels
        count = patches.shape[1]
        some = max(1, 2 * PAIRS_AT_ONCE // (count * count))  # images at once
        found = []
        for images in range(0, len(patches), some):
            pairs = _all_pairs(patches[images : images + some], labels[images : images + some])
            found.append((_exact_auc(pairs), _histogram(pairs, self.bins)))
        exact, histogram = (torch.cat(pieces) for pieces in zip(*found, strict=True))
        return {"auc": exact.where(_whole(patches, labels), torch.nan), "pair_histogram": histogram}
