"""Similarity put to work: each formula against plain loops and values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from segment.encoders.fusion import (
    aggregate,
    apply_attention,
    masked_softmax,
    masked_softmax_rows,
    similarity,
    sinkhorn,
    thresholded,
)


@pytest.fixture
def patches():
    """Two images of five patches of width 7: (2, 5, 7)."""
    return torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(3))


def test_similarity_is_the_cosine_of_every_two_patches(patches):
    cosines = similarity(patches)
    for b in range(2):
        for i in range(5):
            for j in range(5):
                x, y = patches[b, i].double(), patches[b, j].double()
                assert cosines[b, i, j].item() == pytest.approx((x @ y / (x.norm() * y.norm())).item(), abs=1e-6)


def test_similarity_of_half_precision_is_computed_in_fp32(patches):
    half = patches.bfloat16()
    assert torch.equal(similarity(half), similarity(half.float()))
    assert similarity(patches.double()).dtype == torch.float64


def test_entries_below_the_threshold_become_zero_and_the_threshold_itself_stays():
    affinity = torch.tensor([[1.0, 0.25, 0.2], [-0.5, 0.75, 0.0]])
    assert thresholded(affinity, 0.25).tolist() == [[1.0, 0.25, 0.0], [0.0, 0.75, 0.0]]


def test_aggregation_is_the_weighted_mean_of_all_patches(patches):
    weights = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(4))
    mixed = aggregate(weights, patches)
    for b in range(2):
        for p in range(5):
            total = sum(weights[b, p, r].item() for r in range(5))
            expected = sum(weights[b, p, q].double() / total * patches[b, q].double() for q in range(5))
            torch.testing.assert_close(mixed[b, p].double(), expected, atol=1e-5, rtol=1e-5)


def test_aggregation_with_an_empty_row_gives_a_zero_patch(patches):
    weights = torch.eye(5).expand(2, 5, 5).clone()
    weights[0, 3] = 0
    mixed = aggregate(weights, patches)
    assert torch.equal(mixed[0, 3], torch.zeros(7))
    torch.testing.assert_close(mixed[1], patches[1], atol=1e-5, rtol=1e-5)


def test_aggregation_keeps_the_dtype_of_the_patches(patches):
    assert aggregate(torch.ones(2, 5, 5), patches.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("shift", "scale"), [(1.0, 3.0), (1.2, 3.0), (0.0, 1.0), (0.0, 0.0)])
def test_the_gate_is_a_softmax_over_what_stands_above_the_shifted_mean(patches, shift, scale):
    affinity = similarity(patches)
    gate = masked_softmax(affinity, shift=shift, scale=scale)
    for b in range(2):
        mean = sum(affinity[b, i, j].item() for i in range(5) for j in range(5)) / 25
        for i in range(5):
            logits = [scale * (affinity[b, i, j].item() - shift * mean) for j in range(5)]
            kept = [0.0 if logit < 0 else math.exp(logit) for logit in logits]
            assert gate[b, i].tolist() == pytest.approx([weight / sum(kept) for weight in kept], abs=1e-6)


def test_some_rows_of_the_gate_are_those_of_the_whole(patches):
    patches[1, 2] = 0
    affinity, chosen = similarity(patches), torch.tensor([4, 2])
    whole = masked_softmax(affinity, shift=1.2, scale=3.0)
    rows = masked_softmax_rows(
        affinity[:, chosen], chosen, affinity.mean(dim=(1, 2), keepdim=True), shift=1.2, scale=3.0
    )
    assert torch.equal(rows, whole[:, chosen])


def test_a_patch_that_no_other_is_similar_to_attends_to_itself(patches):
    patches[1, 2] = 0
    patches[1, [0, 1, 3, 4]] = patches[1, 0] + 0.1 * patches[1, [0, 1, 3, 4]]  # a mean similarity above 0
    gate = masked_softmax(similarity(patches), shift=1.0, scale=3.0)
    assert gate[1, 2].tolist() == [0, 0, 1, 0, 0]
    assert torch.isfinite(gate).all()


def test_a_image_of_equal_patches_passes_the_gate():
    gate = masked_softmax(similarity(torch.full((1, 50, 13), 0.3)), shift=1.0, scale=3.0)
    torch.testing.assert_close(gate.sum(dim=-1), torch.ones(1, 50))


def test_shared_weights_mix_the_values_of_every_head(patches):
    weights, v = similarity(patches), torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(5))
    mixed = apply_attention(weights, v)
    for head in range(3):
        torch.testing.assert_close(mixed[:, head], weights @ v[:, head])


def test_balancing_once_divides_rows_and_then_columns():
    weights = torch.tensor([[[1.0, 1.0], [0.0, 1.0]]])
    torch.testing.assert_close(sinkhorn(weights, 1), torch.tensor([[[1.0, 1 / 3], [0.0, 2 / 3]]]))
    assert torch.equal(sinkhorn(weights, 0), weights)


def test_balancing_long_makes_rows_and_columns_sum_to_one():
    weights = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(6)) + 0.05
    balanced = sinkhorn(weights, 50)
    torch.testing.assert_close(balanced.sum(dim=1), torch.ones(3, 6))
    torch.testing.assert_close(balanced.sum(dim=2), torch.ones(3, 6))


def test_balancing_leaves_empty_rows_and_columns_empty():
    weights = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(7))
    weights[:, :, 1] = 0
    weights[:, 2] = 0
    balanced = sinkhorn(weights, 6)
    assert torch.isfinite(balanced).all()
    assert (balanced[:, :, 1] == 0).all()
    assert (balanced[:, 2] == 0).all()
    torch.testing.assert_close(balanced.sum(dim=1), torch.tensor([[1.0, 0.0, 1.0, 1.0]]))
