"""Normalized cuts against scipy's generalized eigenproblem, and on graphs whose cut is plain."""

from __future__ import annotations

import pytest
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackNoConvergence

from segment.encoders import normalized_cut as normalized_cut
from segment.encoders.normalized_cut import cut_off, links_of, second_eigenvector


def blocks(*sizes: int, floor: float = 1e-5) -> torch.Tensor:
    """Links of 1 inside each block, `floor` between them."""
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return (owner[:, None] == owner).double().clamp_min(floor)


@pytest.fixture
def links() -> torch.Tensor:
    weights = torch.rand(40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (weights + weights.T) / 2


def test_links_are_one_above_the_threshold_and_the_floor_elsewhere():
    features = torch.tensor([[2.0, 0.0], [3.0, 3.0], [0.0, 1.0], [-1.0, 0.0]])
    floor = 1e-5
    expected = torch.tensor(
        [[1, 1, floor, floor], [1, 1, 1, floor], [floor, 1, 1, floor], [floor, floor, floor, 1]], dtype=torch.float64
    )
    assert torch.equal(links_of(features, 0.7), expected)


def test_the_second_eigenvector_is_that_of_scipys_generalized_problem(links):
    degrees = links.sum(dim=1).diag()
    values, vectors = eigh((degrees - links).numpy(), degrees.numpy())
    expected = torch.from_numpy(vectors[:, 1])
    vector, value = second_eigenvector(links)
    assert value == pytest.approx(values[1], abs=1e-12)
    torch.testing.assert_close(vector * vector[0].sign(), expected * expected[0].sign(), atol=1e-9, rtol=0)


def test_a_large_graph_is_iterated_to_the_same_vector(links, monkeypatch):
    whole, value = second_eigenvector(links)
    monkeypatch.setattr(normalized_cut, "LARGE", 10)
    iterated, again = second_eigenvector(links)
    assert again == pytest.approx(value, abs=1e-10)
    torch.testing.assert_close(iterated, whole, atol=1e-8, rtol=0)


def test_an_iteration_that_does_not_converge_is_replaced_by_the_whole_decomposition(links, monkeypatch):
    def fails(*args, **kwargs):
        raise ArpackNoConvergence("no convergence", [], [])

    whole, _ = second_eigenvector(links)
    monkeypatch.setattr(normalized_cut, "LARGE", 10)
    monkeypatch.setattr(normalized_cut, "eigsh", fails)
    assert torch.equal(second_eigenvector(links)[0], whole)


def test_the_entry_of_largest_size_is_positive_and_follows_a_permutation(links):
    vector, _ = second_eigenvector(links)
    assert vector[vector.abs().argmax()] > 0
    order = torch.randperm(len(links), generator=torch.Generator().manual_seed(1))
    permuted, _ = second_eigenvector(links[order][:, order])
    torch.testing.assert_close(permuted, vector[order], atol=1e-9, rtol=0)


def test_of_two_blocks_the_smaller_one_is_cut_off():
    assert cut_off(blocks(5, 3)).tolist() == [False] * 5 + [True] * 3
    assert cut_off(blocks(2, 6)).tolist() == [True] * 2 + [False] * 6


def test_of_two_equal_blocks_the_first_one_is_cut_off():
    assert cut_off(blocks(4, 4)).tolist() == [True] * 4 + [False] * 4


def test_a_cut_goes_through_the_weakest_links_of_a_chain():
    chain = torch.eye(6, dtype=torch.float64)
    for first, weight in enumerate([1.0, 1.0, 0.1, 1.0, 1.0]):
        chain[first, first + 1] = chain[first + 1, first] = weight
    part = cut_off(chain.clamp_min(1e-9))
    assert part.tolist() in ([True] * 3 + [False] * 3, [False] * 3 + [True] * 3)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_nothing_is_cut_off_where_all_nodes_are_linked_alike(count):
    assert cut_off(torch.ones(count, count, dtype=torch.float64)) is None


@pytest.mark.parametrize("weight", [1.0, 0.25, 1e-5])
@pytest.mark.parametrize("count", [65, 100, 144, 196, 400])
def test_a_large_graph_whose_nodes_are_linked_alike_is_not_cut(count, weight):
    links = torch.full((count, count), weight, dtype=torch.float64)
    # W / d has the eigenvalues 1 and 0 alone, so that every λ but the first is 1.
    assert second_eigenvector(links)[1] == pytest.approx(1.0, abs=1e-9)
    assert cut_off(links) is None


@pytest.mark.parametrize("alone", [0, 100])
def test_one_patch_that_is_linked_to_none_is_cut_off_a_large_graph_of_alike_ones(alone):
    links = torch.ones(101, 101, dtype=torch.float64)
    links[alone] = links[:, alone] = 1e-5
    links[alone, alone] = 1
    assert cut_off(links).nonzero().flatten().tolist() == [alone]
