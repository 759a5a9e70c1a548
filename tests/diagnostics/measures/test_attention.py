"""Attention statistics equal the whole matrix's, whatever the chunks, and never hold it where they need not."""

from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diagnostics.layout import Grid, Layout
from diagnostics.measures import MEASURES, LayerView
from diagnostics.measures import attention as module
from diagnostics.measures.attention import (
    attention_statistics,
    class_row,
    patch_distances,
    rank_one_share,
    stripe_contrast,
)
from diagnostics.taps import Recording

EVERYTHING = {"self", "received", "entropy", "distance", "rank"}
LAYOUTS = [Layout(1, Grid(3, 4)), Layout(0, Grid(4, 3)), Layout(5, Grid(2, 5)), Layout(4, Grid(1, 6), None)]


def heads_of(layout, *, batch=2, heads=3, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, heads, layout.tokens, width)
    return 3 * torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def whole(q, k):
    return ((q.double() @ k.double().mT) / math.sqrt(q.shape[-1])).softmax(dim=-1)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("budget", [1, 200, 2**22])
def test_statistics_equal_those_of_the_whole_matrix(layout, budget, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES_CPU", budget)
    q, k = heads_of(layout)
    maps = whole(q, k)
    patch_rows = maps[:, :, layout.prefix :]
    patch_maps = patch_rows[..., layout.prefix :]
    distances = patch_distances(layout, (16, 8)).double()
    singular = torch.linalg.svdvals(patch_maps)
    expected = {
        "self": patch_maps.diagonal(dim1=2, dim2=3),
        "received": patch_rows.mean(dim=2),
        "entropy": -(maps * maps.log()).sum(dim=-1).mean(dim=-1),
        "distance": ((patch_maps * distances).sum(-1) / patch_maps.sum(-1)).mean(-1),
        "rank": singular[..., 0] ** 2 / (singular**2).sum(-1),
    }
    for wanted in (EVERYTHING, EVERYTHING - {"rank"}, {"self"}, {"distance"}):
        statistics = attention_statistics(q, k, layout, wanted, patch_size=(16, 8))
        assert statistics.keys() == wanted
        for name in wanted:
            assert torch.allclose(statistics[name].double(), expected[name], atol=2e-5), name


@pytest.mark.parametrize("layout", [LAYOUTS[0], LAYOUTS[2]])
def test_the_class_row_is_the_first_row_of_the_matrix(layout):
    q, k = heads_of(layout)
    assert torch.allclose(class_row(q, k, layout).double(), whole(q, k)[:, :, 0, layout.prefix :], atol=1e-6)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return made


def test_row_diagonal_and_column_mass_come_without_the_matrix(monkeypatch):
    layout = Layout(1, Grid(20, 20))
    q, k = heads_of(layout, batch=1, heads=2)
    monkeypatch.setattr(module, "CHUNK_BYTES_CPU", 40 * layout.tokens * 4)
    with LargestTensor() as largest:
        class_row(q, k, layout)
        attention_statistics(q, k, layout, {"self", "received"})
    assert 0 < largest.largest <= 40 * layout.tokens < layout.tokens**2


def test_identical_rows_are_of_rank_one_and_a_permutation_is_not():
    stripes = torch.rand(4, 1, 9, generator=torch.Generator().manual_seed(0)).expand(4, 9, 9)
    assert torch.allclose(rank_one_share(stripes), torch.ones(4), atol=1e-5)
    assert rank_one_share(torch.eye(8)[torch.randperm(8)]).item() == pytest.approx(1 / 8, abs=1e-6)


def test_the_rank_of_heads_that_look_near_is_as_exact_as_that_of_stripes():
    distances = patch_distances(Layout(0, Grid(10, 10)), (1, 1))
    noise = torch.randn(6, 100, 100, generator=torch.Generator().manual_seed(0))
    reach = torch.tensor([0.5, 1, 3, 0.5, 1, 3])[:, None, None]
    spread = torch.tensor([1, 1, 1, 3, 3, 3])[:, None, None]
    maps = (noise * spread - distances**2 / (2 * reach**2)).softmax(dim=-1)
    singular = torch.linalg.svdvals(maps.double())
    expected = singular[:, 0] ** 2 / (singular**2).sum(dim=1)
    shares = rank_one_share(maps.unflatten(0, (2, 3)))
    assert torch.allclose(shares.double().flatten(), expected, rtol=2e-5, atol=0)


def test_the_rank_of_a_map_of_zeros_is_not_reported():
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 1e-25), torch.full((4, 4), 0.25)])
    assert rank_one_share(maps).tolist() == pytest.approx([math.nan, math.nan, 1], nan_ok=True)


def test_one_patch_has_rank_one():
    assert rank_one_share(torch.full((2, 1, 1), 0.3)).tolist() == pytest.approx([1, 1])


def test_even_attention_has_the_entropy_of_all_tokens_and_no_stripes():
    layout = Layout(1, Grid(3, 3))
    q, k = torch.zeros(1, 1, 10, 4), torch.zeros(1, 1, 10, 4)
    statistics = attention_statistics(q, k, layout, {"entropy", "received"})
    assert statistics["entropy"].item() == pytest.approx(math.log(10), rel=1e-6)
    assert stripe_contrast(layout.patches(statistics["received"], dim=2)).item() == pytest.approx(1)


def test_attention_to_one_token_has_no_entropy_and_a_high_stripe():
    layout = Layout(0, Grid(2, 2))
    q, k = torch.ones(1, 1, 4, 1), torch.tensor([[[[500.0], [0], [0], [0]]]])
    statistics = attention_statistics(q, k, layout, EVERYTHING, patch_size=(10, 10))
    assert statistics["entropy"].item() == pytest.approx(0, abs=1e-6)
    assert statistics["received"][0, 0].tolist() == pytest.approx([1, 0, 0, 0])
    # The three others look 10, 10 and 14.14 pixels away, the first looks at itself.
    assert statistics["distance"].item() == pytest.approx((10 + 10 + math.sqrt(200)) / 4)


def test_distances_are_pixels_between_centers_on_grids_that_are_not_square():
    distances = patch_distances(Layout(0, Grid(2, 3)), (16, 8))
    assert distances[0].tolist() == pytest.approx([0, 8, 16, 16, math.hypot(16, 8), math.hypot(16, 16)])


def view_of(layout, q, k, *, wanted=()):
    maps = ((q @ k.mT) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    values = {("query", 1): q, ("key", 1): k, ("attention", 1): maps}
    return LayerView(1, Recording(1, values), layout, (16, 16), shared={"attention_wanted": set(wanted)})


def test_statistics_of_a_layer_are_computed_together_once(monkeypatch):
    layout = LAYOUTS[0]
    calls = []
    original = attention_statistics
    monkeypatch.setattr(module, "attention_statistics", lambda *a, **k: calls.append(a[3]) or original(*a, **k))
    view = view_of(layout, *heads_of(layout), wanted=("self", "received"))
    for name in ("self-attention", "received-attention", "prefix-attention"):
        MEASURES.build(name).measure(view)
    assert calls == [{"self", "received"}]


def test_query_maps_are_rows_of_the_matrix():
    layout = LAYOUTS[2]
    q, k = heads_of(layout)
    view = view_of(layout, q, k)
    rows = MEASURES.build("query-attention:patches=3+7").measure(view)["query_attention"]
    expected = view["attention"][:, :, [8, 12], 5:].reshape(2, 3, 2, 2, 5)
    assert torch.allclose(rows, expected, atol=1e-6)
    mean = MEASURES.build("query-attention:patches=3+7,heads=mean").measure(view)["query_attention_mean"]
    assert torch.allclose(mean, expected.mean(1), atol=1e-6)


def test_the_center_patch_is_the_query_by_default_and_others_must_exist():
    part = MEASURES.build("query-attention")
    assert part.coordinates(Layout(1, Grid(3, 5)))["query"].tolist() == [7]
    assert part.unsupported_reason(Layout(1, Grid(3, 5)), labeled=False) is None
    assert "3x5" in MEASURES.build("query-attention:patches=15").unsupported_reason(
        Layout(1, Grid(3, 5)), labeled=False
    )


def test_whole_maps_come_per_head_or_as_the_mean():
    layout = LAYOUTS[0]
    view = view_of(layout, *heads_of(layout))
    assert torch.allclose(MEASURES.build("attention-maps").measure(view)["attention"], view["attention"], atol=1e-6)
    mean = MEASURES.build("attention-maps:heads=mean").measure(view)["attention_mean"]
    assert torch.allclose(mean, view["attention"].mean(1))


def test_models_without_a_class_token_refuse_its_row():
    assert "no class token" in MEASURES.build("class-attention").unsupported_reason(LAYOUTS[3], labeled=False)
    assert "no prefix" in MEASURES.build("prefix-attention").unsupported_reason(LAYOUTS[1], labeled=False)


def test_bf16_inputs_are_measured_in_fp32():
    layout = LAYOUTS[0]
    q, k = heads_of(layout)
    statistics = attention_statistics(q.bfloat16(), k.bfloat16(), layout, {"entropy"})["entropy"]
    assert statistics.dtype == torch.float32
    assert torch.allclose(statistics, attention_statistics(q, k, layout, {"entropy"})["entropy"], atol=0.05)
