"""What every measure answers where tokens are huge, equal or zero: finite numbers, those of tokens scaled back."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from diagnostics.layout import Grid, Layout
from diagnostics.measures import MEASURES, AcrossLayers
from diagnostics.measures.attention import stripe_contrast
from diagnostics.measures.lengths import unit_vectors, vector_norm
from diagnostics.measures.norms import norm_ratio

LAYOUT = Layout(1, Grid(3, 4))
WIDTH, HEADS = 64, 2
# Not defined, and said so by name: how alike are two patches without a difference, and of what variance is it a share?
# And how far do queries look of which the class token has all attention?
UNDEFINED = {"equal": {"layer_cka", "pca_share"}, "zero": {"layer_cka", "pca_share"}, "scaled": {"attention_distance"}}
# The unit of the tokens: variables that have it grow with them, and all others stay, but for counts.
UNIT_OF_TOKENS = "model units"
SCALED_OTHERWISE = {"entropy", "massive_count"}


def taps(size=1.0, kind="scaled"):
    values = {}
    for seed, name in enumerate(("block_in", "attn_out", "block_sum", "block_out", "query", "key", "value")):
        generator = torch.Generator().manual_seed(seed)
        heads = name in ("query", "key", "value")
        shape = (2, HEADS, LAYOUT.tokens, WIDTH // HEADS) if heads else (2, LAYOUT.tokens, WIDTH)
        value = torch.randn(*shape, generator=generator)
        if kind == "equal":
            value = value[..., :1, :].expand(shape).clone()
        elif kind == "zero":
            value = torch.zeros(shape)
        elif kind == "lone":
            value[..., 5, :] *= 1e30
        values[name] = value * size
    return values


def measured(name, view_of, **options):
    labels = torch.arange(LAYOUT.count).remainder(3).expand(2, -1)
    part, view = MEASURES.build(name), view_of(LAYOUT, labels=labels, **taps(**options))
    if isinstance(part, AcrossLayers):
        return part.compare(torch.stack([part.keep(view), part.keep(view).flip(1)]))
    return part.measure(view)


@pytest.mark.parametrize(
    "kind, size", [("scaled", 1e25), ("scaled", 1e-25), ("lone", 1.0), ("equal", 1.0), ("zero", 1.0)]
)
@pytest.mark.parametrize("name", MEASURES)
def test_numbers_are_finite_at_huge_lone_equal_and_zero_tokens(name, kind, size, view_of):
    for variable, value in measured(name, view_of, kind=kind, size=size).items():
        if variable in UNDEFINED.get(kind, ()):
            assert not value.isinf().any()
            assert "NaN" in inspect.getdoc(MEASURES[name])
        else:
            assert torch.as_tensor(value).isfinite().all(), variable


@pytest.mark.parametrize("size", [1e25, 1e-25])
@pytest.mark.parametrize("name", MEASURES)
def test_numbers_of_scaled_tokens_are_the_scaled_numbers(name, size, view_of):
    part = MEASURES.build(name)
    if {"query", "key"} & set(part.needs) or isinstance(part, AcrossLayers):
        return  # attention grows with the scale; across layers the second one is not scaled along
    plain, units = measured(name, view_of), {variable.name: variable.units for variable in part.variables}
    for variable, value in measured(name, view_of, size=size).items():
        if variable not in SCALED_OTHERWISE:
            expected = plain[variable].double() * (size if units[variable] == UNIT_OF_TOKENS else 1)
            largest = expected.abs().max().clamp_min(1e-30)
            assert torch.allclose(value.double() / largest, expected / largest, atol=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_the_docstring_says_what_extreme_values_and_bf16_do(name):
    text = " ".join(inspect.getdoc(MEASURES[name]).split())
    assert "Extreme values: " in text
    assert "In bf16 " in text


def test_attention_of_overflowing_products_is_that_of_the_largest_product(view_of):
    rows = measured("attention-maps", view_of, size=1e25)["attention"]
    scores = taps()["query"].double() @ taps()["key"].double().mT
    assert torch.equal(rows.argmax(dim=-1), scores.argmax(dim=-1))
    assert torch.equal(rows.amax(dim=-1), torch.ones(2, HEADS, LAYOUT.tokens))
    by_class = measured("class-attention", view_of, size=1e25)["class_attention"]
    assert torch.equal(by_class.flatten(2), rows[:, :, 0, 1:])
    itself = measured("self-attention", view_of, size=1e25)["self_attention"].flatten(2)
    assert torch.equal(itself, rows[:, :, 1:, 1:].diagonal(dim1=2, dim2=3))


def test_a_norm_is_that_of_double_precision_or_the_largest_number():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(7, 100, generator=generator)
    vectors *= torch.tensor([1e30, 1e25, 1e-25, 1e-38, 1.0, 0.0, 1e20])[:, None]
    expected = np.linalg.norm(vectors.double().numpy(), axis=1)
    assert vector_norm(vectors).numpy() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(vector_norm(vectors[4:5]), torch.linalg.vector_norm(vectors[4:5], dim=-1))
    assert vector_norm(torch.full((1, 9), 3e38)).item() == torch.finfo(torch.float32).max
    odd = torch.tensor([[1.0, torch.inf], [1.0, torch.nan], [torch.nan, torch.inf]])
    assert vector_norm(odd)[0] == torch.inf
    assert vector_norm(odd)[1:].isnan().all()
    unit = unit_vectors(vectors).double().numpy()
    known = np.divide(vectors.double().numpy(), expected[:, None], where=expected[:, None] > 0, out=np.zeros((7, 100)))
    assert unit == pytest.approx(known, abs=1e-6)
    assert unit_vectors(odd).isnan().all()


def test_a_norm_ratio_is_at_most_a_million():
    norms = torch.tensor([[0.0, 0.0, 0.0, 7.0], [0.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 9.0], [1.0, 1.0, 1.0, 1e30]])
    assert norm_ratio(norms).tolist() == pytest.approx([1e6, 1, 4.5, 1e6])


def test_channels_of_an_image_with_nan_have_no_number(view_of):
    tokens = taps()["block_out"]
    tokens[0, 3, 2] = torch.nan
    channels = MEASURES.build("top-channels").measure(view_of(LAYOUT, block_out=tokens))
    assert (channels["top_channel"][0] == -1).all()
    assert channels["top_channel_value"][0].isnan().all()
    assert (channels["top_channel"][1] >= 0).all()


def test_a_stripe_contrast_is_bounded_where_columns_vanish():
    # Mean 0.25: the median of 1e-20 counts as 0.0025. The second is an ordinary one, 0.4 over 0.2; the third is empty.
    received = torch.tensor([[1.0, 1e-20, 1e-20, 0.0], [0.4, 0.2, 0.2, 0.1], [0.0, 0.0, 0.0, 0.0]])
    assert stripe_contrast(received).tolist() == pytest.approx([400, 2, 1])
