"""Numbers made from label maps, against scikit-learn, torchmetrics, slow loops and values worked out by hand."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion
from sklearn.metrics import confusion_matrix as sklearn_confusion
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from segment.evaluation.metrics import (
    Counts,
    Resampled,
    best_matching,
    boundary_counts,
    confusion_matrix,
    counts_of,
    matched,
    paired_difference,
    summarize,
)
from segment.evaluation.metrics.by_method import miou_by_method

CLASSES = 5


@pytest.fixture
def maps():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, CLASSES, (20, 30))
    truth[:3] = 255
    predicted = np.where(generator.random((20, 30)) < 0.6, truth % CLASSES, generator.integers(0, CLASSES, (20, 30)))
    return predicted, truth


def test_the_matrix_equals_scikit_learns(maps):
    predicted, truth = maps
    kept = truth != 255
    expected = sklearn_confusion(truth[kept], predicted[kept], labels=range(CLASSES))
    assert np.array_equal(confusion_matrix(predicted, truth, CLASSES), expected)


def test_every_ignored_label_counts_nowhere(maps):
    predicted, truth = maps
    truth = np.where(truth == 2, 77, truth)
    for ignore in ((77, 255), (255, 77), (77, 0, 255)):
        kept = ~np.isin(truth, ignore)
        expected = sklearn_confusion(truth[kept], predicted[kept], labels=range(CLASSES))
        assert np.array_equal(confusion_matrix(predicted, truth, CLASSES, ignore=ignore), expected)


def test_unscored_pixels_count_nowhere(maps):
    predicted, truth = maps
    predicted = predicted.copy()
    predicted[10:] = -1
    assert np.array_equal(
        confusion_matrix(predicted, truth, CLASSES), confusion_matrix(predicted[:10], truth[:10], CLASSES)
    )


def test_matrices_of_images_add_up_to_that_of_all(maps):
    predicted, truth = maps
    parts = sum(confusion_matrix(predicted[rows], truth[rows], CLASSES) for rows in (slice(7), slice(7, None)))
    assert np.array_equal(parts, confusion_matrix(predicted, truth, CLASSES))


def test_mean_iou_and_accuracies_equal_torchmetrics(maps):
    predicted, truth = maps
    summary = summarize(confusion_matrix(predicted, truth, CLASSES))
    kept = torch.tensor(truth != 255)
    pair = torch.tensor(predicted)[kept], torch.tensor(truth)[kept]
    per_class = MulticlassJaccardIndex(CLASSES, average="none")(*pair)
    assert summary.iou == pytest.approx(per_class.numpy(), abs=1e-6)
    assert summary.miou == pytest.approx(float(MulticlassJaccardIndex(CLASSES)(*pair)), abs=1e-6)
    assert summary.fwiou == pytest.approx(float(MulticlassJaccardIndex(CLASSES, average="weighted")(*pair)), abs=1e-6)
    assert summary.macc == pytest.approx(float(MulticlassAccuracy(CLASSES, average="macro")(*pair)), abs=1e-6)
    assert summary.pacc == pytest.approx(float(MulticlassAccuracy(CLASSES, average="micro")(*pair)), abs=1e-6)


def test_numbers_worked_out_by_hand():
    # Truth 0 0 0 1, prediction 0 0 1 1; class 2 occurs nowhere, class 3 is in the truth once and never predicted.
    summary = summarize(confusion_matrix(np.array([[0, 0, 1, 1, 0]]), np.array([[0, 0, 0, 1, 3]]), 4))
    assert summary.iou[:2].tolist() == [2 / 4, 1 / 2]
    assert np.isnan(summary.iou[2])
    assert summary.iou[3] == 0
    assert summary.miou == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert summary.macc == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert summary.pacc == pytest.approx(3 / 5)
    assert summary.fwiou == pytest.approx(3 / 5 * 0.5 + 1 / 5 * 0.5)
    assert summary.never_predicted == (3,)


def test_cliptrases_convention_by_hand():
    summary = summarize(confusion_matrix(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]]), 3), convention="cliptrase")
    assert summary.miou == pytest.approx((2 / 3.01 + 1 / 2.01) / 2)  # class 2 is not in the truth
    assert summary.macc == pytest.approx((2 / 3.01 + 1 / 1.01 + 0) / 3)  # and counts 0 here


def test_nothing_to_score_is_nan_and_no_error():
    summary = summarize(np.zeros((3, 3), np.int64))
    assert np.isnan([summary.miou, summary.macc, summary.pacc, summary.fwiou]).all()
    assert summary.never_predicted == ()


@pytest.mark.parametrize(
    "predicted, truth, message",
    [
        ([[0, 1]], [[0, 7]], r"it also has \[7\]"),
        ([[0, 9]], [[0, 1]], "below 5; got 9"),
        ([[0]], [[0, 1]], "one shape"),
    ],
)
def test_label_maps_that_do_not_fit_are_refused(predicted, truth, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(predicted), np.array(truth), CLASSES)


def test_boundary_counts_equal_a_slow_erosion_of_each_class():
    generator = np.random.default_rng(1)
    coarse = generator.integers(0, 3, (2, 5, 6))
    truth, predicted = (np.kron(labels, np.ones((8, 8), int)) for labels in coarse)
    counts = boundary_counts(predicted, truth, 3, share=0.04)
    distance = round(0.04 * np.hypot(40, 48))

    def outline(mask):
        square = np.ones((3, 3), bool)
        return mask & ~binary_erosion(mask, square, iterations=distance, border_value=0)

    for number in range(3):
        in_truth, in_predicted = outline(truth == number), outline(predicted == number)
        assert counts.right[number] == (in_truth & in_predicted).sum()
        assert counts.truth[number] == in_truth.sum()
        assert counts.predicted[number] == in_predicted.sum()


def test_boundary_iou_of_a_map_with_itself_is_one(maps):
    truth = maps[1]
    counts = boundary_counts(np.where(truth == 255, 0, truth), truth, CLASSES)
    assert np.array_equal(counts.right, counts.truth)


def test_matching_finds_the_best_of_all_permutations():
    back_and_forth = 0
    for seed in range(8):
        matrix = np.random.default_rng(seed).integers(0, 100, (5, 5))
        best = max(
            itertools.permutations(range(5)), key=lambda order, of=matrix: sum(of[c, k] for k, c in enumerate(order))
        )
        assert best_matching(matrix).tolist() == list(best)
        assert np.trace(matched(matrix)) == sum(matrix[c, k] for k, c in enumerate(best))
        assert matched(matrix).sum() == matrix.sum()
        back_and_forth += all(best[best[k]] == k for k in range(5))
    assert back_and_forth < 8, "some matching is not its own inverse, so that rows and columns can't be mixed up"


def test_more_clusters_than_classes_are_refused():
    with pytest.raises(ValueError, match="at most as many clusters"):
        matched(np.ones((2, 3), np.int64))


def resampled(seed, quality, count=60):
    """Counts of made-up images, of which the method gets `quality` right."""
    generator = np.random.default_rng(seed)
    resamples = Resampled(3, replicates=400)
    total = np.zeros((3, 3), np.int64)
    for number in range(count):
        truth = generator.integers(0, 3, (8, 8))
        predicted = np.where(generator.random((8, 8)) < quality, truth, generator.integers(0, 3, (8, 8)))
        matrix = confusion_matrix(predicted, truth, 3)
        total += matrix
        resamples.add(f"{number}", counts_of(matrix))
    return resamples, summarize(total).miou


def test_a_single_image_has_no_interval():
    resamples = Resampled(2)
    matrix = np.array([[5, 1], [2, 8]])
    resamples.add("a", counts_of(matrix))
    assert np.isnan(resamples.interval()).all()
    resamples.add("b", counts_of(matrix[::-1]))
    assert not np.isnan(resamples.interval()).any()


def test_the_interval_holds_the_value_and_has_the_bootstraps_width():
    resamples, miou = resampled(0, 0.7)
    low, high = resamples.interval()
    assert low < miou < high
    # The plain bootstrap, drawing images with replacement, gives the same spread.
    generator = np.random.default_rng(0)
    images = []
    for _ in range(60):
        truth = generator.integers(0, 3, (8, 8))
        predicted = np.where(generator.random((8, 8)) < 0.7, truth, generator.integers(0, 3, (8, 8)))
        images.append(confusion_matrix(predicted, truth, 3))
    drawn = [summarize(sum(images[place] for place in generator.integers(0, 60, 60))).miou for _ in range(400)]
    assert np.std(resamples.miou()) == pytest.approx(np.std(drawn), rel=0.2)


def test_resamples_do_not_depend_on_the_order_of_the_images():
    first, second = Resampled(2, replicates=50), Resampled(2, replicates=50)
    counts = {name: Counts(*np.random.default_rng(ord(name)).integers(0, 9, (3, 2))) for name in "abcd"}
    for name in "abcd":
        first.add(name, counts[name])
    for name in "dbca":
        second.add(name, counts[name])
    assert np.array_equal(first.sums, second.sums)


def test_sparse_counts_are_the_same_as_whole_ones():
    whole, sparse = Resampled(4, replicates=20), Resampled(4, replicates=20)
    counts = Counts(np.array([0, 3, 0, 1]), np.array([0, 4, 0, 2]), np.array([0, 3, 0, 3]))
    whole.add("a", counts)
    places = np.array([1, 3])
    sparse.add("a", Counts(*(part[places] for part in counts)), classes=places)
    assert np.array_equal(whole.sums, sparse.sums)


def test_a_better_method_is_better_in_nearly_all_paired_resamples():
    (worse, _), (better, _) = resampled(0, 0.6), resampled(0, 0.7)
    interval, share = paired_difference(worse, better)
    assert 0 < interval.low < interval.high
    assert share == 1.0
    assert paired_difference(worse, worse) == ((0.0, 0.0), 0.0)


def test_methods_that_saw_other_images_cannot_be_paired():
    first, second = Resampled(2, replicates=5), Resampled(2, replicates=5)
    first.add("a", Counts(np.array([1, 0]), np.array([9, 5]), np.array([9, 5])))
    with pytest.raises(ValueError, match="same images"):
        paired_difference(first, second)


def test_mean_iou_of_several_maps_is_that_of_each(maps):
    predicted, truth = maps
    mious = miou_by_method({"a": predicted, "b": np.where(truth == 255, 0, truth)}, truth, CLASSES)
    assert mious.index.name == "method"
    assert mious["a"] == summarize(confusion_matrix(predicted, truth, CLASSES)).miou
    assert mious["b"] == 1
