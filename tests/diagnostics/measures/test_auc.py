"""Same-class ROC and AUC against scikit-learn, hand-worked pairs and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve

from diagnostics.layout import Grid, Layout
from diagnostics.measures import auc as module
from diagnostics.measures.auc import (
    SameClassAuc,
    auc_from_histogram,
    pair_auc,
    pair_histogram,
    pooled,
    roc_from_histogram,
)
from diagnostics.measures.base import UNLABELED
from diagnostics.measures.similarity import cosine_affinity


def images(batch=3, count=30, width=16, classes=4, seed=0):
    """Patches that lean towards their class, some without a label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (batch, count), generator=generator)
    centers = torch.randn(classes, width, generator=generator)
    patches = centers[labels] + 2 * torch.randn(batch, count, width, generator=generator)
    labels[:, ::7] = UNLABELED
    return patches, labels


def listed(patches, labels):
    """Cosine and «same» of the labeled pairs i<j of one image, by a plain loop over pairs."""
    affinity = cosine_affinity(patches[None])[0]
    chosen = [place for place, label in enumerate(labels.tolist()) if label != UNLABELED]
    pairs = [(i, j) for i in chosen for j in chosen if i < j]
    return (
        np.array([affinity[i, j].item() for i, j in pairs]),
        np.array([int(labels[i] == labels[j]) for i, j in pairs]),
    )


def test_auc_of_each_image_is_scikit_learns():
    patches, labels = images()
    for image, own, found in zip(patches, labels, pair_auc(patches, labels), strict=True):
        cosine, same = listed(image, own)
        assert found.item() == pytest.approx(roc_auc_score(same, cosine), abs=1e-6)


def test_ties_count_half_as_scikit_learn_counts_them():
    # Patches along few axes, so that cosines are exactly -1, 0 or 1 and most pairs are tied.
    generator = torch.Generator().manual_seed(3)
    axes = torch.cat([torch.eye(3), -torch.eye(3)])
    patches = axes[torch.randint(0, 6, (4, 20), generator=generator)]
    labels = torch.randint(0, 3, (4, 20), generator=generator)
    for image, own, found in zip(patches, labels, pair_auc(patches, labels), strict=True):
        cosine, same = listed(image, own)
        assert len(set(cosine)) == 3
        assert found.item() == pytest.approx(roc_auc_score(same, cosine), abs=1e-7)


def test_auc_worked_by_hand():
    angles = torch.tensor([0.0, 10.0, 40.0, 100.0]).deg2rad()
    patches = torch.stack([angles.cos(), angles.sin()], dim=-1)[None]
    # Pairs by angle: 01 10°, 12 30°, 02 40°, 23 60°, 13 90°, 03 100°. Same class: 01 and 23.
    labels = torch.tensor([[0, 0, 1, 1]])
    # 01 beats all four different pairs; 23 beats two of four.
    assert pair_auc(patches, labels).item() == pytest.approx(6 / 8)
    assert pair_auc(patches, torch.tensor([[0, 0, 1, UNLABELED]])).item() == 1


def test_auc_is_nan_where_one_kind_of_pair_is_missing():
    patches, _ = images(batch=4, count=6)
    labels = torch.tensor([[1] * 6, [0, 1, 2, 3, 4, 5], [UNLABELED] * 6, [0, 0, 1, 1, 2, 2]])
    assert pair_auc(patches, labels).isnan().tolist() == [True, True, True, False]
    assert pair_auc(patches[:, :1], labels[:, :1]).isnan().all()
    assert pair_histogram(patches[:, :1], labels[:, :1], bins=4).sum() == 0


def test_the_histogram_counts_every_labeled_pair_once():
    patches, labels = images()
    histogram = pair_histogram(patches, labels, bins=50)
    assert histogram.dtype == torch.int64
    for image, own, found in zip(patches, labels, histogram, strict=True):
        cosine, same = listed(image, own)
        expected = np.zeros((2, 50), dtype=int)
        for value, kind in zip(cosine, same, strict=True):
            expected[kind, min(int((value + 1) * 25), 49)] += 1
        assert found.tolist() == expected.tolist()


def test_cosines_of_minus_1_0_and_1_fall_in_the_first_middle_and_last_bin():
    patches = torch.tensor([[[2.0, 0.0], [5.0, 0.0], [-1.0, 0.0], [0.0, 3.0]]])
    labels = torch.tensor([[0, 0, 1, 1]])
    histogram = pair_histogram(patches, labels, bins=4)[0]
    assert histogram.tolist() == [[2, 0, 2, 0], [0, 0, 1, 1]]


def test_a_cosine_that_rounding_leaves_above_1_is_counted_in_the_last_bin():
    patches = torch.full((1, 40, 7), 0.1) * torch.arange(1, 41)[None, :, None]
    histogram = pair_histogram(patches, torch.zeros(1, 40, dtype=torch.int64), bins=1000)
    assert histogram[0, 1, -1] == 40 * 39 // 2


@pytest.mark.parametrize("pairs", [1, 100, 700])
def test_rows_made_some_at_a_time_give_the_same_numbers(pairs, monkeypatch):
    patches, labels = images()
    histogram, exact = pair_histogram(patches, labels, bins=40), pair_auc(patches, labels)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", pairs)
    assert (pair_histogram(patches, labels, bins=40) - histogram).abs().sum() <= 2  # rounding at a bin's edge
    assert torch.allclose(pair_auc(patches, labels), exact, atol=1e-5)


def test_the_roc_curve_is_scikit_learns():
    patches, labels = images(batch=1)
    bins = 64
    histogram = pair_histogram(patches, labels, bins=bins)[0].numpy()
    cosine, same = listed(patches[0], labels[0])
    binned = np.minimum(((cosine + 1) * bins / 2).astype(int), bins - 1)
    fpr, tpr = roc_from_histogram(histogram)
    assert fpr.shape == tpr.shape == (bins + 1,)
    known_fpr, known_tpr, thresholds = roc_curve(same, binned, drop_intermediate=False)
    for rate, known_rate, threshold in zip(known_fpr[1:], known_tpr[1:], thresholds[1:], strict=True):
        assert fpr[bins - int(threshold)] == pytest.approx(rate)
        assert tpr[bins - int(threshold)] == pytest.approx(known_rate)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert auc_from_histogram(histogram) == pytest.approx(roc_auc_score(same, binned))


def test_the_pooled_auc_is_that_of_all_images_pairs_together():
    patches, labels = images(batch=5)
    cosine, same = (np.concatenate(pieces) for pieces in zip(*map(listed, patches, labels), strict=True))
    total = pair_histogram(patches, labels).sum(dim=0, keepdim=True).numpy()
    assert pooled(total)["auc_pooled"] == pytest.approx([roc_auc_score(same, cosine)], abs=1e-3)


def test_the_pooled_curve_has_one_point_for_each_bin_and_falls_from_1():
    histogram = np.array([[[3, 1, 0], [1, 1, 2]], [[0, 0, 0], [1, 1, 2]]])
    found = pooled(histogram)
    assert found["roc"].shape == (2, 3, 2)
    assert found["roc"][0].tolist() == [[1.0, 1.0], [0.25, 0.75], [0.0, 0.5]]
    assert found["auc_pooled"][0] == pytest.approx((2 * 4 + 1 * 3 + 0.5 * 1 + 0.5 * 3) / 16)
    assert math.isnan(found["auc_pooled"][1])
    assert np.isnan(found["roc"][1, :, 0]).all()
    assert found["roc"][1, :, 1].tolist() == [1.0, 0.75, 0.5]


def test_the_part_yields_both_numbers_of_the_functions(view_of):
    layout = Layout(2, Grid(5, 6))
    patches, labels = images()
    tokens = torch.cat([torch.ones(3, 2, 16), patches], dim=1)
    part = SameClassAuc(bins=20)
    found = part.measure(view_of(layout, block_out=tokens, labels=labels))
    assert torch.equal(found["auc"], pair_auc(patches, labels))
    assert torch.equal(found["pair_histogram"], pair_histogram(patches, labels, bins=20))
    coordinates = part.coordinates(layout)
    assert coordinates["relation"].tolist() == ["different", "same"]
    assert coordinates["bin"][[0, -1]].tolist() == pytest.approx([-0.95, 0.95])
    assert part.unsupported_reason(layout, labeled=True) is None
    assert "label" in part.unsupported_reason(layout, labeled=False)
    with pytest.raises(ValueError, match="labels"):
        part.measure(view_of(layout, block_out=tokens))
    with pytest.raises(ValueError, match="bins"):
        SameClassAuc(bins=1)


def test_large_images_are_taken_some_at_a_time(view_of, monkeypatch):
    patches, labels = images(batch=5)
    view = view_of(Layout(0, Grid(5, 6)), block_out=patches, labels=labels)
    together = SameClassAuc(bins=20).measure(view)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 900)
    apart = SameClassAuc(bins=20).measure(view)
    assert torch.allclose(apart["auc"], together["auc"], atol=1e-5)
    assert (apart["pair_histogram"] - together["pair_histogram"]).abs().sum() <= 2


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_broken_patch_has_no_pairs_and_makes_its_image_nan(broken):
    patches, labels = images()
    patches[1, 1, 3] = broken
    exact = pair_auc(patches, labels)
    assert exact.isnan().tolist() == [False, True, False]
    without = labels.clone()
    without[1, 1] = UNLABELED
    assert torch.equal(pair_histogram(patches, labels), pair_histogram(patches, without))
    assert pair_auc(patches, without).isfinite().all()


def test_auc_is_blind_to_the_order_of_patches_to_rotation_and_to_length():
    patches, labels = images()
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(30, generator=generator)
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q
    lengths = torch.rand(3, 30, 1, generator=generator) + 0.1
    expected = pair_auc(patches, labels)
    assert torch.allclose(pair_auc(patches[:, order], labels[:, order]), expected, atol=1e-5)
    assert torch.allclose(pair_auc(patches @ rotation, labels), expected, atol=1e-5)
    assert torch.allclose(pair_auc(patches * lengths, labels), expected, atol=1e-5)
