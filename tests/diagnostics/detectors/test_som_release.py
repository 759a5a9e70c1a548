"""The released rule from scores alone: candidates, their order, and the limit."""

from __future__ import annotations

import pytest
import torch

from diagnostics.detectors.som_release import SomRelease
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recording

LAYOUT = Layout(1, Grid(5, 6))


def recorded(seed, layout=LAYOUT, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    shape = (2, 3, layout.tokens, 8)
    q, k = (spread * torch.randn(shape, generator=generator), torch.randn(shape, generator=generator))
    return Recording(1, {("query", 1): q, ("key", 1): k})


def released(recording, layout, factor, most):
    """The rule written out, one image and one patch at a time: sets of marked patches."""
    q, k = recording["query"].double(), recording["key"].double()
    attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)
    marked = []
    for image in attention:
        candidates = []
        for patch in range(layout.count):
            token = layout.prefix + patch
            if factor * image[layout.class_index, token] > image[token, token]:
                candidates.append((image[layout.class_index, token].item(), patch))
        marked.append({patch for _, patch in sorted(candidates, reverse=True)[:most]})
    return marked


@pytest.mark.parametrize("layout", [LAYOUT, Layout(5, Grid(4, 7)), Layout(2, Grid(1, 9), 1)], ids=str)
@pytest.mark.parametrize("factor, most", [(1.5, 10), (1.0, 4), (0.5, 100)])
def test_marks_equal_the_rule_written_out(layout, factor, most):
    for seed in range(3):
        recording = recorded(seed, layout)
        mask = SomRelease(factor=factor, most=most)(recording, layout).mask
        marked = [set(row.nonzero().flatten().tolist()) for row in mask]
        assert marked == released(recording, layout, factor, most)
        assert any(marked)


def test_the_limit_keeps_the_candidates_that_the_class_token_attends_to_most():
    recording = recorded(0)
    scores, mask = SomRelease(most=4)(recording, LAYOUT)
    assert ((scores > 0).sum(dim=1) > 4).all()
    assert mask.sum(dim=1).tolist() == [4, 4]
    assert (torch.where(mask, scores, 1).amin(dim=1) >= torch.where(mask, 0, scores).amax(dim=1)).all()


def test_fewer_candidates_than_the_limit_are_not_filled_up():
    recording = recorded(0, spread=0.0)  # even attention: with a factor of 1 every patch is a tie
    assert not SomRelease(factor=0.999)(recording, LAYOUT).mask.any()
    assert SomRelease()(recording, LAYOUT).mask.sum(dim=1).tolist() == [10, 10]


@pytest.mark.parametrize("settings", [{"factor": 0.0}, {"most": 0}])
def test_settings_without_meaning_are_refused(settings):
    with pytest.raises(ValueError, match="should be"):
        SomRelease(**settings)
