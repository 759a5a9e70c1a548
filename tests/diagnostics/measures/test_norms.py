"""Norms and peaks against hand-worked values and plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from diagnostics.layout import Grid, Layout
from diagnostics.measures.norms import (
    ClassNorm,
    Frobenius,
    Norms,
    Peak,
    PrefixNorm,
    frobenius_norm,
    median_norm,
    norm_outliers,
    norm_ratio,
    peak_value,
    token_norms,
)


def test_the_norm_of_3_and_4_is_5():
    assert torch.equal(token_norms(torch.tensor([[[3.0, -4.0], [0.0, 0.0]]])), torch.tensor([[5.0, 0.0]]))


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two():
    norms = torch.tensor([[10.0, 1.0, 3.0, 2.0], [4.0, 4.0, 4.0, 4.0]])
    assert median_norm(norms).tolist() == [2.5, 4.0]
    assert norm_ratio(norms).tolist() == [4.0, 1.0]
    assert median_norm(norms[:, :3]).tolist() == [3.0, 4.0]


def test_outliers_lie_above_the_line_and_not_on_it():
    norms = torch.tensor([[1.0, 1.0, 1.0, 3.0, 3.1], [1.0, 1.0, 1.0, 50.0, 40.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert norm_outliers(norms, ratio=3).tolist() == [1, 2, 0]
    assert norm_outliers(norms, ratio=45).tolist() == [0, 1, 0]


def test_a_image_with_nan_has_no_count_and_the_next_one_has():
    norms = torch.tensor([[1.0, 1.0, math.nan, 9.0], [1.0, 1.0, 1.0, 9.0]])
    assert norm_outliers(norms, ratio=3).tolist() == [-1, 1]
    assert norm_ratio(norms)[0].isnan()


def test_the_map_of_norms_holds_patches_only_and_keeps_rows_before_columns(view_of):
    layout = Layout(2, Grid(2, 3))
    tokens = torch.tensor([100.0, 200.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])[None, :, None].expand(1, 8, 4)
    measured = Norms().measure(view_of(layout, block_out=tokens))
    assert measured["norm"].tolist() == [[[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]]
    assert measured["norm_ratio"].item() == pytest.approx(6 / 3.5)
    assert measured["norm_outliers"].item() == 0


def test_the_class_norm_is_of_the_class_token_wherever_it_sits(view_of):
    layout = Layout(3, Grid(1, 2), class_index=1)
    tokens = torch.arange(5.0)[None, :, None]
    assert ClassNorm().measure(view_of(layout, block_out=tokens))["class_norm"].tolist() == [1.0]
    assert ClassNorm().unsupported_reason(layout, labeled=False) is None
    assert "class token" in ClassNorm().unsupported_reason(Layout(3, Grid(1, 2), None), labeled=False)


def test_prefix_norms_are_those_of_class_token_and_registers(view_of):
    layout = Layout(3, Grid(1, 2))
    tokens = torch.arange(5.0)[None, :, None]
    assert PrefixNorm().measure(view_of(layout, block_out=tokens))["prefix_norm"].tolist() == [[0.0, 1.0, 2.0]]
    assert PrefixNorm().coordinates(layout)["prefix"].tolist() == [0, 1, 2]
    assert "prefix" in PrefixNorm().unsupported_reason(Layout(0, Grid(1, 2)), labeled=False)


def test_frobenius_norm_and_peak_equal_a_plain_loop():
    tokens = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)) - 1
    for image, norm, peak in zip(tokens, frobenius_norm(tokens), peak_value(tokens), strict=True):
        entries = [value for row in image.tolist() for value in row]
        assert norm.item() == pytest.approx(math.sqrt(math.fsum(value * value for value in entries)), rel=1e-6)
        assert peak.item() == max(entries)


def test_the_peak_is_signed():
    assert peak_value(torch.tensor([[[-90.0, -2.0], [-3.0, -4.0]]])).item() == -2.0


@pytest.mark.parametrize("part, name", [(Frobenius, "frobenius"), (Peak, "peak")])
def test_streams_come_in_order_and_with_the_prefix_unless_set_otherwise(part, name, view_of):
    layout = Layout(1, Grid(1, 1))
    taps = {"block_in": [[8.0], [1.0]], "attn_out": [[16.0], [2.0]], "block_sum": [[32.0], [3.0]]}
    view = view_of(layout, **{tap: torch.tensor([value]) for tap, value in taps.items()})
    assert part().coordinates(layout)["stream"].tolist() == ["block_in", "attn_out", "block_sum"]
    assert part(tokens="patches").measure(view)[name].tolist() == [[1.0, 2.0, 3.0]]
    whole = part().measure(view)[name][0]
    expected = [8.0, 16.0, 32.0] if name == "peak" else [math.hypot(8, 1), math.hypot(16, 2), math.hypot(32, 3)]
    assert whole.tolist() == pytest.approx(expected)


def test_settings_that_mean_nothing_are_refused(view_of):
    with pytest.raises(ValueError, match="ratio"):
        Norms(ratio=0)
    tokens = torch.ones(1, 2, 3)
    view = view_of(Layout(1, Grid(1, 1)), block_in=tokens, attn_out=tokens, block_sum=tokens)
    with pytest.raises(ValueError, match="`all`"):
        Peak(tokens="class").measure(view)
