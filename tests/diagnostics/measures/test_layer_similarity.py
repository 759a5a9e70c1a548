"""CKA and cosine between layers against the textbook's loops and the identities they promise."""

from __future__ import annotations

import math

import pytest
import torch

from diagnostics.layout import Grid, Layout
from diagnostics.measures import layer_similarity as module
from diagnostics.measures.layer_similarity import LayerSimilarity, layer_cosine, linear_cka


def layers_of(layers=4, batch=2, count=9, width=6, seed=0):
    """A stream that grows from layer to layer: (L, B, N, D)."""
    steps = torch.randn(layers, batch, count, width, generator=torch.Generator().manual_seed(seed))
    return steps.cumsum(dim=0) + 0.5


def textbook_cka(x, y):
    """HSIC with an explicit centering matrix, in doubles: Kornblith et al. 2019, Eq 3 and 4."""
    count = len(x)
    centering = torch.eye(count, dtype=torch.float64) - 1 / count

    def hsic(left, right):
        return torch.trace(left @ centering @ right @ centering).item() / (count - 1) ** 2

    left_gram, right_gram = x.double() @ x.double().T, y.double() @ y.double().T
    return hsic(left_gram, right_gram) / math.sqrt(hsic(left_gram, left_gram) * hsic(right_gram, right_gram))


@pytest.mark.parametrize("entries", [1, 100, 2**22])
@pytest.mark.parametrize("count, width", [(9, 6), (5, 20)])
def test_cka_is_the_textbooks(entries, count, width, monkeypatch):
    monkeypatch.setattr(module, "GRAM_ENTRIES", entries)
    patches = layers_of(count=count, width=width)
    similarity = linear_cka(patches)
    assert similarity.shape == (2, 4, 4)
    for image in range(2):
        for layer in range(4):
            for other in range(4):
                expected = textbook_cka(patches[layer, image], patches[other, image])
                assert similarity[image, layer, other].item() == pytest.approx(expected, abs=1e-5)


def test_cka_with_an_outlier_patch_is_the_textbooks():
    patches = layers_of()
    patches[2:, :, 4] *= 500
    assert linear_cka(patches)[0, 1, 3].item() == pytest.approx(textbook_cka(patches[1, 0], patches[3, 0]), abs=1e-5)


def test_cka_is_blind_to_rotation_scale_and_shift_and_cosine_is_not():
    patches = layers_of(layers=1)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).Q
    turned = torch.cat([patches, 1000 * patches @ rotation + 3])
    assert linear_cka(turned)[:, 0, 1].tolist() == pytest.approx([1, 1], abs=1e-5)
    assert layer_cosine(turned)[:, 0, 1].abs().max() < 0.9


def test_cosine_is_the_mean_over_patches():
    patches = layers_of()
    similarity = layer_cosine(patches)
    assert similarity.shape == (2, 4, 4)
    for layer in range(4):
        for other in range(4):
            cosines = [
                sum(a * b for a, b in zip(x, y, strict=True)) / (math.hypot(*x) * math.hypot(*y))
                for x, y in zip(patches[layer, 1].tolist(), patches[other, 1].tolist(), strict=True)
            ]
            assert similarity[1, layer, other].item() == pytest.approx(sum(cosines) / len(cosines), abs=1e-6)


def test_layers_are_wholly_like_themselves_and_pairs_are_symmetric():
    for similarity in (linear_cka(layers_of()), layer_cosine(layers_of())):
        assert torch.allclose(similarity.diagonal(dim1=1, dim2=2), torch.ones(2, 4), atol=1e-6)
        assert torch.allclose(similarity, similarity.mT, atol=1e-6)


def test_equal_patches_have_no_cka():
    patches = layers_of()
    patches[1] = 0.1
    similarity = linear_cka(patches)
    assert similarity[:, 1].isnan().all()
    assert similarity[:, :, 1].isnan().all()
    assert similarity[:, [0, 2, 3]][:, :, [0, 2, 3]].isfinite().all()


def test_nan_stays_in_its_layer_and_image():
    patches = layers_of()
    patches[1, 0, 3, 2] = math.nan
    kept = [0, 2, 3]
    for similarity in (linear_cka(patches), layer_cosine(patches)):
        assert similarity[0, 1].isnan().all()
        assert similarity[0][kept][:, kept].isfinite().all()
        assert similarity[1].isfinite().all()


def test_the_part_keeps_patches_only_and_compares_them(view_of):
    layout = Layout(2, Grid(2, 3))
    tokens = [torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    part = LayerSimilarity()
    kept = torch.stack([part.keep(view_of(layout, block_out=value.bfloat16())) for value in tokens])
    assert kept.shape == (3, 2, 6, 5)
    assert kept.dtype == torch.float32
    compared = part.compare(kept)
    assert torch.equal(compared["layer_cka"], linear_cka(kept))
    assert torch.equal(compared["layer_cosine"], layer_cosine(kept))
    assert [variable.dims for variable in part.variables] == [("image", "layer", "other_layer")] * 2
