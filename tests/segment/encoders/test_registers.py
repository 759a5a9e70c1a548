"""Registers as a method: the stock blocks with one more token, worked out block by block."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.detectors.register_neuron import RegisterNeuron
from diagnostics.edits.register import register_token
from segment.encoders.encode_many import encode_many
from segment.methods import METHODS


@pytest.fixture(scope="module")
def outlying() -> Backbone:
    """A model that makes outliers on plain patches: hidden unit 0 of block 6 fires there."""
    return load_backbone("tiny:outliers=true")


@pytest.fixture(scope="module")
def smooth() -> Tensor:
    """Two images of smooth shades, on which that model has outliers."""
    coarse = torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (96, 160), mode="bilinear")


def patches(backbone: Backbone, images: Tensor, spec: str) -> Tensor:
    return encode_many(backbone, images, [spec], positions="bicubic-offset")[0].patches


@pytest.mark.parametrize("spec", ["tiny", "tiny:class_token=false", "tiny:registers=2"])
@pytest.mark.parametrize("moved", ["zero", "keep"])
def test_it_equals_the_blocks_run_by_hand_with_one_more_token(images, spec, moved):
    backbone = load_backbone(spec)
    result = patches(backbone, images, f"registers:neurons=3/1+3/7+8/2,strength=2,patches={moved}")
    tokens = backbone.embed(images, positions="bicubic-offset")
    first = backbone.prefix
    token = torch.tensor(register_token(backbone)).expand(len(images), 1, -1)
    tokens = torch.cat([tokens, token], dim=1)  # its place does not matter: as the release has it, it comes last
    for layer, block in enumerate(backbone.blocks, start=1):
        heads = block.qkv(tokens)
        weights = (heads.q @ heads.k.mT / heads.q.shape[-1] ** 0.5).softmax(dim=-1)
        tokens = tokens + block.mix(weights, heads)
        hidden = block.ffn_hidden(tokens).clone()
        units = {3: [1, 7], 8: [2]}.get(layer, [])
        if units:
            for number in range(len(images)):
                values = hidden[number][:, units].flatten()
                hidden[number, -1, units] = 2 * values[values.abs().argmax()]
            if moved == "zero":
                hidden[:, first:-1, units] = 0
        tokens = tokens + block.ffn_out(hidden)
    assert torch.allclose(result, backbone.project(tokens)[:, first:-1], atol=1e-5)


def test_neurons_are_found_on_the_first_images_by_the_rules_of_the_release(outlying, smooth):
    method = METHODS.build("registers:top_k=5")
    assert method.learns
    ready = method.fitted(outlying, smooth)
    search = RegisterNeuron(scope="model", searched="tokens", contrast=False, top_k=5, detect_at=-1)
    expected = search.fitted(outlying, smooth, 12).neurons
    assert ready.encoder.neurons == "+".join(f"{layer}/{unit}" for layer, unit in expected)
    assert ready.fitted(outlying, smooth) == ready
    moved = encode_many(outlying, smooth, [ready], positions="bicubic-offset")[0].patches
    assert torch.equal(moved, patches(outlying, smooth, f"registers:neurons={ready.encoder.neurons}"))


def test_the_planted_neuron_takes_its_outliers_along(outlying, smooth):
    # Hidden unit 0 of block 6 makes them; without it the patches that had them look like the others.
    (plain,) = encode_many(outlying, smooth, ["purify-first:then=clip,detector=relative-norm"])
    marked = plain.extras["outliers"]
    assert marked.any()
    stock, moved = (patches(outlying, smooth, f"registers:neurons={name}") for name in ("none", "6/0"))
    purified = plain.patches
    assert (moved - purified)[marked].norm() < 0.7 * (stock - purified)[marked].norm()


def test_without_outliers_there_is_no_register_and_the_features_are_the_stock_ones(tiny, images):
    ready = METHODS.build("registers").fitted(tiny, images)
    assert ready.encoder.neurons == "none"
    assert torch.equal(
        encode_many(tiny, images, [ready], positions="bicubic-offset")[0].patches, patches(tiny, images, "clip")
    )


def test_the_last_block_is_any_that_last_block_methods_have(tiny, images):
    plain = patches(tiny, images, "registers:neurons=none,kernel=qq,residual=false,ffn=false")
    assert torch.equal(plain, patches(tiny, images, "clearclip"))
    moved = patches(tiny, images, "registers:neurons=2/0,kernel=qq,residual=false,ffn=false")
    assert not torch.allclose(moved, plain, atol=1e-4)


def test_it_says_what_is_missing(tiny, images):
    with pytest.raises(ValueError, match="has no neurons yet"):
        encode_many(tiny, images, ["registers"])
    with pytest.raises(ValueError, match="layer/unit"):
        METHODS.build("registers:neurons=6")
    with pytest.raises(ValueError, match=r"blocks 1…11; `neurons` names 12/3"):
        encode_many(tiny, images, ["registers:neurons=12/3"])
