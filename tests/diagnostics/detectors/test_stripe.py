"""A stripe is bright for every query; a patch that only some attend to is none."""

from __future__ import annotations

import torch

from diagnostics.detectors.received_attention import ReceivedAttention
from diagnostics.detectors.stripe import Stripe
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording

LAYOUT = Layout(0, Grid(4, 5))


def recorded(maps):
    """Queries and keys of one head whose attention is the given map: with keys √d·I the logits are the queries."""
    count = maps.shape[-1]
    keys = count**0.5 * torch.eye(count).expand(maps.shape[0], 1, count, count)
    return Recording(1, {("query", 1): maps.log()[:, None], ("key", 1): keys})


def test_a_stripe_scores_far_above_a_patch_that_as_much_attention_goes_to_from_a_few_queries():
    maps = torch.ones(1, 20, 20)
    maps[:, :, 3] = 8.0  # from all queries
    maps[:, 10:13, 7] = 200.0  # from three neighbors
    maps = maps / maps.sum(dim=2, keepdim=True)
    recording = recorded(maps)
    received = ReceivedAttention().score(recording, LAYOUT)[0]
    scores, mask = Stripe()(recording, LAYOUT)
    assert received[7] > 2
    assert received[3] > 2
    assert scores[0, 3] > 3 * scores[0, 7]
    assert mask[0].nonzero().flatten().tolist() == [3]


def test_scores_equal_the_formula_on_a_map_of_two_columns_worked_out_by_hand():
    # Column means 0.5, 0.3, 0.2 and deviations 0.1, 0.1, 0: the median mean is 0.3.
    maps = torch.tensor([[[0.6, 0.2, 0.2], [0.4, 0.4, 0.2], [0.5, 0.3, 0.2]]])
    scores = Stripe().score(recorded(maps), Layout(0, Grid(1, 3)))
    deviation = (0.02 / 3) ** 0.5
    torch.testing.assert_close(scores[0, :2], torch.tensor([0.2 / deviation, 0.0]), rtol=1e-4, atol=1e-4)
    # No spread counts as a thousandth of the even share.
    torch.testing.assert_close(scores[0, 2].item(), -0.1 / (0.001 / 3), rtol=1e-2, atol=0)


def test_an_even_map_has_no_stripe():
    scores, mask = Stripe()(recorded(torch.full((2, 20, 20), 0.05)), LAYOUT)
    assert scores.abs().max() < 0.1
    assert not mask.any()
