"""Attention without the columns of marked patches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diagnostics.layout import Grid, Layout
from diagnostics.purifiers import mask_columns

LAYOUTS = [Layout(0, Grid(2, 3), None), Layout(1, Grid(2, 3)), Layout(5, Grid(3, 2))]

layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"prefix{layout.prefix}")


def logits_and_mask(layout: Layout) -> tuple[Tensor, Tensor]:
    """Logits (3, 2, T, T) and masks: nothing, two patches, all but one."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[1, [1, 4]] = True
    mask[2, 1:] = True
    return torch.randn(3, 2, layout.tokens, layout.tokens, generator=generator), mask


@layouts
def test_renormalized_columns_are_minus_infinity_before_the_softmax(layout):
    logits, mask = logits_and_mask(layout)
    columns = torch.cat([torch.zeros(3, layout.prefix, dtype=torch.bool), mask], dim=1)[:, None, None]
    expected = logits.masked_fill(columns, -torch.inf).softmax(dim=-1)
    masked = mask_columns(logits.softmax(dim=-1), mask, layout)
    torch.testing.assert_close(masked, expected, atol=1e-7, rtol=1e-6)


@layouts
def test_zeroed_columns_leave_all_other_weights_and_short_rows(layout):
    logits, mask = logits_and_mask(layout)
    weights = logits.softmax(dim=-1)
    masked = mask_columns(weights, mask, layout, how="zero")
    for b in range(3):
        for patch in range(6):
            column = layout.prefix + patch
            expected = torch.zeros_like(weights[b, :, :, column]) if mask[b, patch] else weights[b, :, :, column]
            assert torch.equal(masked[b, :, :, column], expected)
    assert torch.equal(masked[..., : layout.prefix], weights[..., : layout.prefix])
    assert (masked[1:].sum(dim=-1) < 1).all()


def test_hand_worked_rows():
    layout = Layout(1, Grid(1, 2))
    weights = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [0.6, 0.4, 0.0]])[None, None]
    mask = torch.tensor([[True, False]])
    renormalized = mask_columns(weights, mask, layout)[0, 0]
    torch.testing.assert_close(renormalized, torch.tensor([[2 / 7, 0, 5 / 7], [0, 1, 0], [1, 0, 0]]))
    short = mask_columns(weights, mask, layout, how="zero")[0, 0]
    assert torch.equal(short, torch.tensor([[0.2, 0, 0.5], [0, 0, 0], [0.6, 0, 0]]))


@layouts
@pytest.mark.parametrize("how", ["renormalize", "zero"])
def test_images_without_a_mark_come_back_bit_for_bit_and_inputs_stay(layout, how):
    logits, mask = logits_and_mask(layout)
    weights = logits.softmax(dim=-1)
    before = weights.clone()
    masked = mask_columns(weights, mask, layout, how=how)
    assert torch.equal(masked[0], weights[0])
    masked.fill_(7)
    assert torch.equal(weights, before)


def test_rows_keep_their_weights_where_every_key_is_marked():
    layout = LAYOUTS[0]
    weights = logits_and_mask(layout)[0].softmax(dim=-1)
    everything = torch.ones(3, 6, dtype=torch.bool)
    assert torch.equal(mask_columns(weights, everything, layout), weights)
    assert not mask_columns(weights, everything, layout, how="zero").any()


def test_nan_in_marked_columns_does_not_spread():
    layout = LAYOUTS[1]
    logits, mask = logits_and_mask(layout)
    weights = logits.softmax(dim=-1)
    columns = torch.cat([torch.zeros(3, 1, dtype=torch.bool), mask], dim=1)[:, None, None]
    for how in ("renormalize", "zero"):
        expected = mask_columns(weights, mask, layout, how=how)
        assert torch.equal(mask_columns(weights.masked_fill(columns, torch.nan), mask, layout, how=how), expected)


def test_half_precision_stays_and_is_summed_in_full():
    layout = LAYOUTS[1]
    logits, mask = logits_and_mask(layout)
    weights = logits.softmax(dim=-1).bfloat16()
    masked = mask_columns(weights, mask, layout)
    assert masked.dtype == torch.bfloat16
    assert torch.equal(masked[1:], mask_columns(weights.float(), mask, layout)[1:].bfloat16())


def test_bad_inputs_are_refused_with_what_was_expected():
    layout = LAYOUTS[1]
    logits, mask = logits_and_mask(layout)
    with pytest.raises(ValueError, match=r"`how` should be one of `renormalize`, `zero`; got `drop`"):
        mask_columns(logits, mask, layout, how="drop")
    with pytest.raises(ValueError, match=r"`weights` should be \(B, H, T, T\) with T=7; got \(3, 2, 6, 6\)"):
        mask_columns(logits[..., 1:, 1:], mask, layout)
    with pytest.raises(ValueError, match=r"`mask` should be \(B, N\) = \(3, 6\); got \(3, 7\)"):
        mask_columns(logits, torch.zeros(3, 7, dtype=torch.bool), layout)
    with pytest.raises(TypeError, match="`mask` should be bool"):
        mask_columns(logits, mask.int(), layout)
