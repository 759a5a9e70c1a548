"""Numbers of attention maps and of other maps between patches, mean over the images given."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import Tensor

from attention_outliers.papers.claim import ImageMean
from attention_outliers.papers.figure_maps import STRIPES
from attention_outliers.papers.inputs import FigureInputs
from diagnostics.backbones.base import recorded_attention
from diagnostics.images.label_maps import patch_labels_at
from diagnostics.measures import UNLABELED, attention
from diagnostics.tap_places import ATTENTION_PARTS

HOT = 5  # patches that most is looked at; our choice
FOLLOWS = 0.5  # rank correlation from which one thing is said to follow another; our choice
ALIKE = 0.5  # correlation above which maps are said to be alike; our choice


def mean_over(inputs: FigureInputs, number_of: Callable[[int], float]) -> float:
    """Mean over the images of a number of each; images where it is nan are left out, nan where it always is."""
    return ImageMean([number_of(number) for number in range(len(inputs.images))])


def attention_maps(inputs: FigureInputs, layers: Iterable[int], number: int = 0) -> dict[int, Tensor]:
    """Attention of one image at several layers, mean over heads, from one forward: layer -> (T, T)."""
    wanted = list(layers)
    recording = inputs.record(*ATTENTION_PARTS, layers=wanted, number=number)
    return {layer: recorded_attention(recording, layer).mean(dim=1)[0] for layer in wanted}


def between_patches(inputs: FigureInputs, matrix: Tensor) -> Tensor:
    """The patch-patch part of a map: (T, T) -> (N, N)."""
    layout = inputs.layout
    return layout.patches(layout.patches(matrix[None], dim=1), dim=2)[0]


def of_class_token(inputs: FigureInputs, matrix: Tensor) -> Tensor | None:
    """What the class token has with each patch, (T, T) -> (N); None where there is none."""
    index = inputs.layout.class_index
    return None if index is None else inputs.layout.patches(matrix[None], dim=2)[0, index]


def likeness(rows: Tensor) -> float:
    """Mean correlation of every two rows: (R, N) -> in [-1, 1]; nan for fewer than two rows.

    1: all look at the same; near 0: what one looks at says nothing of what another does. A constant row has 0 with all.
    """
    if len(rows) < 2:
        return float("nan")
    unit = F.normalize(rows.float() - rows.float().mean(dim=1, keepdim=True), dim=1)
    total = (unit @ unit.mT).sum() - unit.square().sum()
    return float(total / (len(rows) * (len(rows) - 1)))


def stripe_contrast(between: Tensor) -> float:
    """Largest over median of what patches receive from patches: (N, N) -> 1…100 N. Our measure of stripes."""
    return float(attention.stripe_contrast(between.float().mean(dim=0)))


def hottest(received: Tensor, count: int = HOT) -> Tensor:
    """Numbers of the patches with the largest values: (N) -> (count)."""
    return received.topk(min(count, len(received))).indices


def first_above(values: dict[int, float], line: float) -> float:
    """The first layer whose value is above the line; nan where none is."""
    return next((float(layer) for layer in sorted(values) if values[layer] > line), float("nan"))


def labels_of(inputs: FigureInputs, number: int) -> Tensor | None:
    """The class of each patch by majority vote, (N) int; None where the images have no labels."""
    if inputs.labels is None:
        return None
    height, width = inputs.tensor(number).shape[-2:]
    size = int(height), int(width)
    return patch_labels_at(inputs.labels[number], size, inputs.backbone.patch_size, ignore=(inputs.ignore,))[0]


def same_class_auc(matrix: Tensor, labels: Tensor) -> float:
    """AUC of a map's entries as a score of «same class», pairs i != j of labeled patches: (N, N), (N) -> in [0, 1].

    0.5 is chance; nan where all pairs are of one kind.
    """
    labels = labels.cpu()
    known = labels != UNLABELED
    pairs = (known[:, None] & known) & ~torch.eye(len(labels), dtype=torch.bool)
    same = (labels[:, None] == labels)[pairs].numpy()
    if same.all() or not same.any():
        return float("nan")
    return float(roc_auc_score(same, matrix.float().cpu()[pairs].numpy()))


def background_share(inputs: FigureInputs, number: int) -> float:
    """Share of the labeled patches that the largest class of an image takes; nan without labels.

    Our reading of «background» where label maps have no class of that name: sky, sea, wall.
    """
    labels = labels_of(inputs, number)
    known = labels[labels != UNLABELED] if labels is not None else torch.empty(0)
    return float(known.unique(return_counts=True)[1].max() / len(known)) if len(known) else float("nan")


def on_objects(weights: Tensor, labels: Tensor) -> float:
    """How much of its attention a row gives to labeled patches that are not of the largest class, over their share.

    (N), (N) -> 1 where attention does not care, more where it goes to objects; nan where all are of one class.
    """
    labels, weights = labels.cpu(), weights.float().cpu()
    known = labels != UNLABELED
    if not known.any():
        return float("nan")
    classes, counts = labels[known].unique(return_counts=True)
    objects = known & (labels != classes[counts.argmax()])
    share = float(objects.sum() / known.sum())
    return float(weights[objects].sum() / weights[known].sum()) / share if share else float("nan")


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation; nan where one of them is constant."""
    from scipy.stats import spearmanr

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)


__all__ = [
    "ALIKE", "FOLLOWS", "HOT", "STRIPES", "attention_maps", "background_share", "between_patches", "first_above",
    "hottest",
    "labels_of", "likeness", "mean_over", "of_class_token", "on_objects", "rank_correlation", "same_class_auc",
    "stripe_contrast",
]  # fmt: skip
