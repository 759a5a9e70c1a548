"""Heads taken out of attention: what is left is what the other heads hand out."""

from __future__ import annotations

import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.edits import EDITS
from diagnostics.taps import Recorder, chain


def images():
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def test_what_a_head_hands_out_is_attention_times_values():
    backbone = load_backbone("tiny:depth=3")
    recorder = Recorder("attention", "value", "head_out", layers=[2])
    with torch.no_grad():
        backbone.trunk(images(), tap=recorder)
    expected = recorder["attention", 2] @ recorder["value", 2]
    torch.testing.assert_close(recorder["head_out", 2], expected)


def test_a_head_that_is_taken_out_leaves_what_the_others_hand_out():
    backbone = load_backbone("tiny:depth=3")
    stock = Recorder("head_out", "attn_out", "normed", layers=[2])
    after = Recorder("attn_out", layers=[2])
    with torch.no_grad():
        backbone.trunk(images(), tap=stock)
        backbone.trunk(images(), tap=chain(EDITS.build("ablate-heads:heads=1,layers=2"), after))
        kept = stock["head_out", 2].clone()
        kept[:, 1] = 0
        expected = backbone.blocks[1].merge_heads(kept, stock["normed", 2])
    torch.testing.assert_close(after["attn_out", 2], expected)
    assert not torch.allclose(after["attn_out", 2], stock["attn_out", 2])


def test_the_mean_leaves_what_is_the_same_for_all_tokens():
    backbone = load_backbone("tiny:depth=3")
    after = Recorder("head_out", layers=[2])
    with torch.no_grad():
        backbone.trunk(images(), tap=chain(EDITS.build("ablate-heads:heads=0,to=mean,layers=2"), after))
    head = after["head_out", 2][:, 0]
    torch.testing.assert_close(head, head[:, :1].expand_as(head))
    assert head.abs().max() > 0


def test_heads_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="should be 0…1 at layer 2"), torch.no_grad():
        load_backbone("tiny:depth=3").trunk(images(), tap=EDITS.build("ablate-heads:heads=7,layers=2"))
    with pytest.raises(ValueError, match="should be one of zero, mean"):
        EDITS.build("ablate-heads:to=half")
