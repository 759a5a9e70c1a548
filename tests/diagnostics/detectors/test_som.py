"""The class token's attention to a patch against the patch's own, for one averaged map or by the heads' vote."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.som import Som
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording

LAYOUTS = [Layout(1, Grid(3, 4)), Layout(5, Grid(2, 3), 0), Layout(2, Grid(4, 1), 1)]


def heads_of(layout, *, heads=4, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, heads, layout.tokens, width)
    return 2 * torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def recorded(q, k):
    return Recording(1, {("query", 1): q, ("key", 1): k})


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_scores_equal_those_of_the_whole_matrix(layout):
    q, k = heads_of(layout)
    attention = (q.double() @ k.double().mT / q.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)
    ratio, difference = torch.zeros(2, layout.count), torch.zeros(2, layout.count)
    for image in range(2):
        for patch in range(layout.count):
            token = layout.prefix + patch
            by_class, by_self = attention[image, layout.class_index, token], attention[image, token, token]
            ratio[image, patch], difference[image, patch] = by_class / by_self, by_class - by_self
    scores, mask = Som()(recorded(q, k), layout)
    torch.testing.assert_close(scores, ratio, rtol=1e-4, atol=0)
    assert torch.equal(mask, ratio > 1)
    assert mask.any()
    assert not mask.all()
    scores, mask = Som(compare="difference")(recorded(q, k), layout)
    torch.testing.assert_close(scores, difference, rtol=1e-4, atol=1e-6)
    assert torch.equal(mask, difference > 0)


def test_the_threshold_is_the_tie_unless_given():
    assert Som().threshold == 1
    assert Som(compare="difference").threshold == 0
    assert Som(compare="difference", threshold=0.25).threshold == 0.25


@pytest.mark.parametrize("compare", ["ratio", "difference"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.25, 0.5, 0.6, 0.75, 0.9])
def test_a_vote_marks_where_the_rule_holds_in_more_than_the_share_of_heads(share, compare):
    layout = LAYOUTS[0]
    q, k = heads_of(layout)
    one_head = [Som(compare=compare)(recorded(q[:, h : h + 1], k[:, h : h + 1]), layout).mask for h in range(4)]
    votes = torch.stack(one_head).float().mean(dim=0)
    assert votes.unique().numel() > 3
    assert torch.equal(Som(compare=compare, heads="vote", vote_share=share)(recorded(q, k), layout).mask, votes > share)


def test_even_attention_is_a_tie_and_marks_nothing():
    layout = LAYOUTS[0]
    zeros = torch.zeros(2, 3, layout.tokens, 4)
    assert not Som()(recorded(zeros, zeros), layout).mask.any()


@pytest.mark.parametrize("settings", [{"compare": "sum"}, {"heads": "max"}, {"vote_share": 1.0}, {"vote_share": -0.1}])
def test_settings_without_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="should"):
        Som(**settings)
