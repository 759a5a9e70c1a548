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
    POINTS,
    POOLED,
    TOLERANCE,
    SameClassAuc,
    auc_from_histogram,
    coarse,
    pair_auc,
    pair_histogram,
    pooled,
    pooled_auc,
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
    """Cosine and «same» of the labeled pairs i<j of one image, by a plain loop over pairs, in double precision."""
    affinity = cosine_affinity(patches[None].double())[0]
    chosen = [place for place, label in enumerate(labels.tolist()) if label != UNLABELED]
    pairs = [(i, j) for i in chosen for j in chosen if i < j]
    return (
        np.array([affinity[i, j].item() for i, j in pairs]),
        np.array([int(labels[i] == labels[j]) for i, j in pairs]),
    )


def test_auc_of_each_image_is_scikit_learns():
    patches, labels = images()
    for image, classes, auc in zip(patches, labels, pair_auc(patches, labels), strict=True):
        cosine, same = listed(image, classes)
        assert auc.item() == pytest.approx(roc_auc_score(same, cosine), abs=1e-6)


def test_ties_count_half_as_scikit_learn_counts_them():
    # Patches along few axes, so that cosines are exactly -1, 0 or 1 and most pairs are tied.
    generator = torch.Generator().manual_seed(3)
    axes = torch.cat([torch.eye(3), -torch.eye(3)])
    patches = axes[torch.randint(0, 6, (4, 20), generator=generator)]
    labels = torch.randint(0, 3, (4, 20), generator=generator)
    for image, classes, auc in zip(patches, labels, pair_auc(patches, labels), strict=True):
        cosine, same = listed(image, classes)
        assert len(set(cosine)) == 3
        assert auc.item() == pytest.approx(roc_auc_score(same, cosine), abs=1e-7)


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


def bin_by_hand(cosine, bins):
    """Which bin a cosine belongs to: 0.85 of them even in log2(1 - cosine) from -40 to 1, 0.15 in the cosine."""
    distance = max(0.0, 1 - cosine)
    logarithm = (math.log2(max(distance, 2.0**-40)) + 40) / 41
    return bins - 1 - min(int((0.85 * logarithm + 0.15 * distance / 2) * bins), bins - 1)


def test_the_histogram_counts_every_labeled_pair_of_all_images_once():
    patches, labels = images()
    histogram = pair_histogram(patches, labels, bins=50)
    assert histogram.dtype == torch.int64
    expected = np.zeros((2, 50), dtype=int)
    for image, classes in zip(patches, labels, strict=True):
        for value, kind in zip(*listed(image, classes), strict=True):
            expected[kind, bin_by_hand(value, 50)] += 1
    assert histogram.tolist() == expected.tolist()


def test_opposite_vectors_fall_in_the_first_bin_and_equal_ones_in_the_last():
    patches = torch.tensor([[[2.0, 0.0], [5.0, 0.0], [-1.0, 0.0], [0.0, 3.0]]])
    labels = torch.tensor([[0, 0, 1, 1]])
    # At a right angle: 0.85 * 40/41 + 0.15 / 2 = 0.904 of the axis, the second of sixteen bins from the far end.
    assert pair_histogram(patches, labels, bins=16).tolist() == [[2, 2, *[0] * 14], [0, 1, *[0] * 13, 1]]


def test_a_cosine_that_rounding_leaves_above_1_is_counted_in_the_last_bin():
    patches = torch.full((1, 40, 7), 0.1) * torch.arange(1, 41)[None, :, None]
    histogram = pair_histogram(patches, torch.zeros(1, 40, dtype=torch.int64), bins=1000)
    assert histogram[1, -1] == 40 * 39 // 2


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
    histogram = pair_histogram(patches, labels, bins=bins).numpy()
    cosine, same = listed(patches[0], labels[0])
    binned = np.array([bin_by_hand(value, bins) for value in cosine])
    fpr, tpr = roc_from_histogram(histogram)
    assert fpr.shape == tpr.shape == (bins + 1,)
    known_fpr, known_tpr, thresholds = roc_curve(same, binned, drop_intermediate=False)
    for rate, known_rate, threshold in zip(known_fpr[1:], known_tpr[1:], thresholds[1:], strict=True):
        assert fpr[bins - int(threshold)] == pytest.approx(rate)
        assert tpr[bins - int(threshold)] == pytest.approx(known_rate)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert auc_from_histogram(histogram) == pytest.approx(roc_auc_score(same, binned))


def with_common_part(offset, seed=0):
    """Batches of three grids whose patches share a vector `offset` times as long as what is their own."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(5, 64, generator=generator)
    for count, batch in ((196, 3), (210, 2), (35, 4)):
        labels = torch.randint(0, 5, (batch, count), generator=generator)
        patches = 0.4 * centers[labels] + torch.randn(batch, count, 64, generator=generator)
        patches[..., 3] += 8 * offset
        yield patches, labels


@pytest.mark.parametrize("offset", [0, 3, 30, 316])
def test_the_pooled_auc_is_that_of_all_pairs_whatever_patches_have_in_common(offset):
    histogram, distances, truths = 0, [], []
    for patches, labels in with_common_part(offset):
        histogram = histogram + pair_histogram(patches, labels)
        for image, classes in zip(patches.double().numpy(), labels.numpy(), strict=True):
            # 1 - cosine as half the squared difference of unit vectors, which loses no digits.
            unit = image / np.linalg.norm(image, axis=1, keepdims=True)
            i, j = np.triu_indices(len(classes), 1)
            distances.append(np.square(unit[i] - unit[j]).sum(axis=1) / 2)
            truths.append(classes[i] == classes[j])
    distance, same = np.concatenate(distances), np.concatenate(truths)
    exact = roc_auc_score(same, -distance)
    pooled_curve = pooled_auc(histogram.numpy())
    assert abs(pooled_curve.auc - exact) < 1e-5
    assert abs(pooled_curve.auc - exact) <= pooled_curve.error
    assert pooled_curve.error < TOLERANCE
    assert coarse(float(pooled_curve.error)) is None
    if offset == 316:
        assert np.median(distance) < 1.2e-5
    # And the area of the curve that is kept, cut at known distances.
    (curve,) = pooled(histogram[None].numpy())["roc"]
    (edges,) = pooled(histogram[None].numpy())["roc_distance"]
    fpr, tpr = (np.append(curve[:, rate], 0.0) for rate in (0, 1))
    assert -np.trapezoid(tpr, fpr) == pytest.approx(exact, abs=1e-4)
    for place in (100, 500, 900):
        assert curve[place, 0] == pytest.approx((distance[~same] <= edges[place]).mean(), abs=1e-4)
        assert curve[place, 1] == pytest.approx((distance[same] <= edges[place]).mean(), abs=1e-4)


def test_the_bound_is_reached_where_a_bin_hides_an_order():
    # 3 different and 2 same pairs share a bin; in truth all the same ones may come first, or last.
    histogram = np.array([[1, 3, 0], [0, 2, 2]])
    curve = pooled_auc(histogram)
    best = (2 * 4 + 2 * 4) / 16
    worst = (2 * 4 + 2 * 1) / 16
    assert curve.auc == pytest.approx((best + worst) / 2)
    assert curve.error == pytest.approx((best - worst) / 2)


def test_a_coarse_pooled_auc_is_reported():
    assert coarse(TOLERANCE) is None
    assert coarse(float("nan")) is None
    assert "off by 0.002" in coarse(0.002)
    assert "auc:pair_bins=" in coarse(0.002)


def test_the_pooled_curve_falls_from_1_in_even_steps_of_both_rates():
    patches, labels = images(batch=2, count=120)
    histogram = np.stack([pair_histogram(patches, labels).numpy(), np.zeros((2, 2**18), dtype=int)])
    histogram[1, 1, 5] = 7  # a layer without different pairs
    curve = pooled(histogram)
    assert curve.keys() == {variable.name for variable in POOLED}
    assert curve["roc"].shape == (2, POINTS, 2)
    assert curve["roc"][0, 0].tolist() == [1, 1]
    steps = curve["roc"][0].sum(axis=1)
    assert (np.diff(steps) <= 0).all()
    assert np.abs(steps - 2 * np.arange(POINTS, 0, -1) / POINTS).max() < 2e-3
    assert (np.diff(curve["roc_distance"][0]) <= 0).all()
    assert math.isnan(curve["auc_pooled"][1])
    assert math.isnan(curve["auc_pooled_error"][1])
    assert np.isnan(curve["roc"][1, :, 0]).all()
    assert (curve["roc"][1, :, 1] == 1).all()


def test_the_part_yields_both_numbers_of_the_functions(view_of):
    layout = Layout(2, Grid(5, 6))
    patches, labels = images()
    tokens = torch.cat([torch.ones(3, 2, 16), patches], dim=1)
    part = SameClassAuc(pair_bins=20)
    measured = part.measure(view_of(layout, block_out=tokens, labels=labels))
    assert torch.equal(measured["auc"], pair_auc(patches, labels))
    assert torch.equal(measured["pair_histogram"], pair_histogram(patches, labels, bins=20))
    coordinates = part.coordinates(layout)
    assert coordinates["relation"].tolist() == ["different", "same"]
    assert coordinates["pair_bin"].tolist() == list(range(20))
    assert part.unsupported_reason(layout, labeled=True) is None
    assert "label" in part.unsupported_reason(layout, labeled=False)
    with pytest.raises(ValueError, match="labels"):
        part.measure(view_of(layout, block_out=tokens))
    with pytest.raises(ValueError, match="pair_bins"):
        SameClassAuc(pair_bins=1)


def test_large_images_are_taken_some_at_a_time(view_of, monkeypatch):
    patches, labels = images(batch=5)
    view = view_of(Layout(0, Grid(5, 6)), block_out=patches, labels=labels)
    together = SameClassAuc(pair_bins=20).measure(view)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 900)
    apart = SameClassAuc(pair_bins=20).measure(view)
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


def test_the_auc_of_a_image_is_exact_where_cosines_are_1_to_seven_digits():
    angles = torch.tensor([0.0, 1e-5, 3e-5, 7e-5], dtype=torch.float64)
    patches = torch.stack([torch.ones_like(angles), angles.tan()], dim=-1)[None].float()
    # As by hand above: pairs 01 and 23 are the same class; by angle 01 1, 12 2, 02 3, 23 4, 13 6, 03 7.
    assert pair_auc(patches, torch.tensor([[0, 0, 1, 1]])).item() == pytest.approx(6 / 8)


def test_patches_of_1e30_and_of_1e_30_have_the_pairs_of_their_directions():
    patches, labels = images()
    for size in (1e30, 1e-30):
        assert torch.allclose(pair_auc(patches * size, labels), pair_auc(patches, labels), atol=1e-5)


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
