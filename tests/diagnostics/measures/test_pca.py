"""Principal components against scikit-learn, on spectra that are kind and unkind to an iteration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from diagnostics.layout import Grid, Layout
from diagnostics.measures import pca as module
from diagnostics.measures.pca import PrincipalComponents, leading_eigenpairs, principal_components


def decaying(count, width, batch=2, seed=0):
    """Patches whose components fall off slowly, away from the origin."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    sizes = torch.arange(1, width + 1).pow(-0.5)
    return torch.randn(batch, count, width, generator=generator) * sizes @ axes + 2


def outlier(count, width, factor=5000.0):
    patches = decaying(count, width)
    patches[:, count // 3] *= factor
    return patches


def noise(count, width):
    return torch.randn(2, count, width, generator=torch.Generator().manual_seed(5))


def low_rank(count, width):
    generator = torch.Generator().manual_seed(6)
    return torch.randn(2, count, 2, generator=generator) @ torch.randn(2, width, generator=generator)


SHAPES = [(20, 48), (60, 10), (100, 80), (150, 200), (200, 120)]


@pytest.mark.parametrize("make", [decaying, outlier, noise, low_rank])
@pytest.mark.parametrize("count, width", SHAPES)
def test_scores_and_shares_are_scikit_learns(make, count, width):
    patches = make(count, width)
    components = principal_components(patches)
    for image, scores, share in zip(patches, *components, strict=True):
        known = PCA(3, svd_solver="full").fit(image.double().numpy())
        expected = known.transform(image.double().numpy())
        largest = np.linalg.norm(expected[:, 0])
        for place in range(3):
            theirs = torch.from_numpy(expected[:, place])
            ours = scores[:, place].double()
            ours = ours * torch.sign((ours * theirs).sum())
            # Components beyond the rank are noise of rounding on both sides.
            allowed = max(1e-3 * theirs.norm().item(), 1e-6 * largest)
            assert (ours - theirs).norm().item() <= allowed
        assert share.tolist() == pytest.approx(known.explained_variance_ratio_, rel=1e-4, abs=1e-7)


def test_a_line_worked_by_hand():
    patches = torch.tensor([[[1.0, 1.0], [2.0, 2.0], [6.0, 6.0]]])
    components = principal_components(patches, count=2)
    root = math.sqrt(2)
    assert components.scores[0, :, 0].tolist() == pytest.approx([-2 * root, -root, 3 * root], rel=1e-6)
    assert components.scores[0, :, 1].tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert components.share[0].tolist() == pytest.approx([1, 0], abs=1e-6)


@pytest.mark.parametrize("count, width", [(2, 5), (5, 2), (1, 4)])
def test_components_beyond_patches_or_width_are_0(count, width):
    components = principal_components(noise(count, width))
    rank = min(count - 1, width)
    assert components.scores.shape == (2, count, 3)
    assert components.scores[:, :, rank:].abs().max() < 1e-6
    if rank:
        assert components.share[:, :rank].sum(dim=1).tolist() == pytest.approx([1, 1])
        assert components.share[:, rank:].abs().max() < 1e-12
    else:
        assert components.share.isnan().all()


@pytest.mark.parametrize("make", [decaying, outlier])
@pytest.mark.parametrize("count, width", [(20, 48), (200, 120)])
def test_the_largest_patch_of_each_component_is_positive(make, count, width):
    scores = principal_components(make(count, width)).scores
    largest = scores.gather(1, scores.abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()
    assert torch.allclose(principal_components(-make(count, width)).scores, scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("count, width", [(20, 48), (150, 200)])
def test_equal_patches_have_scores_0_and_no_share(count, width):
    row = torch.randn(width, generator=torch.Generator().manual_seed(0))
    patches = torch.cat([row.expand(1, count, width), decaying(count, width, batch=1)])
    components = principal_components(patches)
    assert components.scores[0].abs().max() == 0
    assert components.share[0].isnan().all()
    assert components.share[1].isfinite().all()


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("count, width", [(20, 48), (150, 200)])
def test_a_broken_patch_makes_its_image_nan_and_no_other(broken, count, width):
    patches = decaying(count, width)
    expected = principal_components(patches)
    patches[0, 4, 2] = broken
    components = principal_components(patches)
    assert components.scores[0].isnan().all()
    assert components.share[0].isnan().all()
    assert torch.allclose(components.scores[1], expected.scores[1], rtol=1e-4, atol=1e-5)


def test_the_iteration_finds_what_the_full_decomposition_finds(monkeypatch):
    patches = decaying(160, 300, batch=3)
    quick = principal_components(patches)
    monkeypatch.setattr(module, "DIRECT", 1000)
    full = principal_components(patches)
    assert torch.allclose(quick.scores, full.scores, rtol=1e-4, atol=1e-5)
    assert torch.allclose(quick.share, full.share, rtol=1e-5)


def test_equal_eigenvalues_are_all_found():
    values = torch.zeros(120, dtype=torch.float64)
    values[:4] = torch.tensor([9.0, 4.0, 4.0, 4.0])
    axes = torch.linalg.qr(torch.randn(120, 120, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    eigenvalues, vectors = leading_eigenpairs((axes * values @ axes.T)[None], 3)
    assert eigenvalues[0].tolist() == pytest.approx([9, 4, 4])
    assert torch.allclose(vectors.mT @ vectors, torch.eye(3, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("rank", [1, 2, 7])
def test_a_space_that_is_used_up_leaves_no_ghosts(rank):
    generator = torch.Generator().manual_seed(rank)
    axes = torch.linalg.qr(torch.randn(200, rank, generator=generator, dtype=torch.float64)).Q
    known = torch.arange(rank, 0, -1, dtype=torch.float64)
    eigenvalues, vectors = leading_eigenpairs((axes * known @ axes.T)[None], 3)
    assert eigenvalues[0].tolist() == pytest.approx([*known.tolist(), 0, 0][:3], abs=1e-12)
    assert torch.allclose(vectors.mT @ vectors, torch.eye(3, dtype=torch.float64), atol=1e-9)


def test_new_directions_are_orthogonal_even_to_a_basis_that_holds_them():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(100, 12, generator=generator, dtype=torch.float64)).Q
    block = module._orthonormal_to(basis, basis[:, :4] * 7)
    assert (basis.T @ block).abs().max() < 1e-12
    assert torch.allclose(block.T @ block, torch.eye(4, dtype=torch.float64), atol=1e-12)


def test_scores_follow_a_permutation_of_the_patches():
    patches = decaying(150, 200)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(2))
    expected = principal_components(patches).scores[:, order]
    assert torch.allclose(principal_components(patches[:, order]).scores, expected, rtol=1e-3, atol=1e-4)


def test_the_part_folds_scores_into_maps(view_of):
    layout = Layout(1, Grid(3, 4))
    patches = decaying(12, 8)
    tokens = torch.cat([torch.full((2, 1, 8), 99.0), patches], dim=1)
    part = PrincipalComponents(components=2)
    measured = part.measure(view_of(layout, block_out=tokens))
    expected = principal_components(patches, count=2)
    assert measured["pca"].shape == (2, 2, 3, 4)
    assert torch.equal(measured["pca"][1, 0, 2, 1], expected.scores[1, 9, 0])
    assert torch.equal(measured["pca_share"], expected.share)
    assert part.coordinates(layout)["component"].tolist() == [1, 2]
    with pytest.raises(ValueError, match="components"):
        PrincipalComponents(components=0)


def test_the_input_is_left_alone():
    patches = decaying(10, 8).double()
    before = patches.clone()
    principal_components(patches)
    assert torch.equal(patches, before)
