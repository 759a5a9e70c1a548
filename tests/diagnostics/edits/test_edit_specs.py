"""Edits behind a backbone's spec: what they do is what the edit does as a tap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.edits import EDITS
from diagnostics.edits.register import TestTimeRegister, register_token
from diagnostics.edits.specs import edited, edits_of
from diagnostics.studies.probe import probe
from diagnostics.studies.profile import profile
from diagnostics.taps import Recorder, chain


@pytest.fixture(scope="module")
def plain():
    generator = np.random.default_rng(0)
    return [(level + generator.integers(0, 8, (112, 112, 3))).astype(np.uint8) for level in range(20, 220, 20)]


@pytest.fixture(scope="module")
def file(plain, tmp_path_factory):
    made = profile(load_backbone("tiny:outliers=true"), plain, examine=4)
    return made.write(tmp_path_factory.mktemp("profile") / "profile.json")


def images():
    return torch.randn(2, 3, 112, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spec", ["mute-channels:channels=17+44,layers=6", "scale-residual:alpha=3,layers=4+5"])
def test_an_edit_of_a_spec_is_the_tap_that_it_names(spec):
    stock, changed = load_backbone("tiny"), load_backbone(f"tiny + {spec}")
    recorder = Recorder("block_out", layers=[7])
    with torch.no_grad():
        expected = stock.trunk(images(), tap=EDITS.build(spec))
        assert torch.equal(changed.trunk(images(), tap=recorder), expected)
        assert not torch.equal(stock.trunk(images()), expected)
        # A tap of the call sees what the edit made, and later blocks run on from there.
        assert torch.equal(changed.run(recorder["block_out", 7], start=8, layout=changed.layout(images())), expected)
    assert changed.spec == f"tiny + {spec}"


def test_a_register_counts_among_the_prefix_tokens_everywhere():
    stock, changed = load_backbone("tiny"), load_backbone("tiny + register:neurons=3.5+3.9+6.1")
    assert (changed.prefix, stock.prefix) == (2, 1)
    tap = TestTimeRegister(neurons=((3, 5), (3, 9), (6, 1)), token=register_token(stock))
    with torch.no_grad():
        expected = stock.trunk(images(), tap=tap)
        tokens = changed.trunk(images())
    assert torch.equal(tokens, expected)
    assert changed.layout(images()) == tap.layout_with(stock.layout(images()))
    assert changed.layout(images()).patches(tokens).shape[1] == stock.layout(images()).count
    run = probe(changed, [np.zeros((64, 64, 3), np.uint8)], measures=["norms", "received-attention"])
    assert run["norm"].notnull().all()


def test_an_edit_after_a_register_knows_of_it():
    both = "register:neurons=3.5 + mute-channels:channels=3,tokens=patches,layers=5"
    changed, stock = load_backbone(f"tiny + {both}"), load_backbone("tiny")
    recorder = Recorder("block_out", layers=[5])
    with torch.no_grad():
        changed.trunk(images(), tap=recorder)
    layout = changed.layout(images())
    assert (layout.patches(recorder["block_out", 5])[..., 3] == 0).all()
    assert (layout.prefix_tokens(recorder["block_out", 5])[..., 3] != 0).all()
    assert stock.layout(images()).prefix + 1 == layout.prefix


def test_purify_at_takes_layer_detector_and_line_from_a_profile(file, plain):
    stock = load_backbone("tiny:outliers=true")
    (edit,) = edits_of(f"purify-at:detector=profile({file})", stock)
    assert edit.layers == (6,)
    changed = load_backbone(f"tiny:outliers=true + purify-at:detector=profile({file})")
    after = profile(changed, plain, examine=0)
    assert after.first_layer is None
    with torch.no_grad():
        expected = stock.trunk(images(), tap=chain(replace(edit)))
        assert torch.equal(changed.trunk(images()), expected)


def test_a_register_takes_its_neurons_from_a_profile(file):
    (edit,) = edits_of(f"register:profile={file}", load_backbone("tiny:outliers=true"))
    assert edit.neurons[0] == (6, 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("register", "should name hidden units"),
        ("register:neurons=8", "layer.unit such as 8.417"),
        ("register:neurons=99.1", "should lie in 0…12"),
        ("purify-at:layers=8", "should say what it purifies"),
        ("purify-at:detector=register-neuron,layers=8", "learns from images"),
        ("mute-channel", "Did you mean `mute-channels`"),
    ],
)
def test_edits_that_can_not_be_made_say_what_is_missing(spec, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(f"tiny + {spec}")


def test_no_edits_leave_the_backbone_as_it_is():
    stock = load_backbone("tiny")
    assert edited(stock, []) is stock
