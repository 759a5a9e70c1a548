"""What all backbones share: the trunk and its stops, a block's pieces, gradients, and the check of images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from diagnostics.backbones import load_backbone
from diagnostics.backbones.base import attend, attention_weights
from diagnostics.taps import Recorder

SPECS = ["tiny", "tiny:class_token=false", "tiny:registers=4"]


@pytest.mark.parametrize("spec", SPECS)
def test_blocks_run_on_from_wherever_the_trunk_stopped(spec, images):
    backbone = load_backbone(spec)
    recording = Recorder("block_out")
    whole = backbone.trunk(images, tap=recording)
    for stop in (0, 1, 7, -2):
        tokens = backbone.trunk(images, stop=stop)
        assert torch.equal(tokens, recording["block_out", stop])
        following = stop + 1 if stop >= 0 else backbone.depth + 2 + stop
        assert torch.equal(backbone.run(tokens, start=following), whole)


@pytest.mark.parametrize("spec", SPECS)
def test_the_pieces_of_a_block_make_its_output(spec, images):
    backbone = load_backbone(spec)
    recording = Recorder("block_in", "normed", "attn_out", "ffn_out", "block_out", layers=[5])
    backbone.trunk(images, tap=recording)
    block, tokens = backbone.blocks[4], recording["block_in"]
    heads = block.qkv(tokens)
    mixed = block.mix(attention_weights(heads.q, heads.k), heads)
    assert torch.equal(heads.normed, recording["normed"])
    assert torch.allclose(mixed, recording["attn_out"], atol=1e-5)
    assert torch.allclose(block.ffn(tokens + mixed), recording["ffn_out"], atol=1e-4)
    assert torch.allclose(tokens + mixed + block.ffn(tokens + mixed), recording["block_out"], atol=1e-4)


def test_attention_is_fused_but_where_a_tap_wants_the_matrix(tiny, images, monkeypatch):
    fused, stock = [], F.scaled_dot_product_attention

    def counted(q, *others, **options):
        fused.append(q.shape)
        return stock(q, *others, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    tiny.trunk(images, tap=Recorder("query", "block_out"))
    assert len(fused) == tiny.depth
    tiny.trunk(images, tap=Recorder("attention", layers=[3, -1]))
    assert len(fused) == 2 * tiny.depth - 2


@pytest.mark.parametrize("spec", SPECS)
def test_values_alone_are_those_of_all_three(spec, images):
    backbone = load_backbone(spec)
    block = backbone.blocks[0]
    with torch.no_grad():
        normed = block.norm(backbone.embed(images))
        torch.testing.assert_close(block.project_values(normed), block.project_heads(normed)[2])


def test_attention_in_bf16_is_that_of_fp32_up_to_its_rounding():
    q, k, v = (part.bfloat16() for part in torch.randn(3, 2, 2, 7, 8, generator=torch.Generator().manual_seed(0)))
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), scale=0.2)
    torch.testing.assert_close(attend(q, k, v, scale=0.2).double(), exact, rtol=0, atol=0.03)
    torch.testing.assert_close(attend(q.float(), k.float(), v.float(), scale=0.2).double(), exact, rtol=0, atol=1e-5)


@pytest.mark.parametrize("spec", SPECS)
def test_gradients_reach_the_image_though_the_weights_are_frozen(spec, images):
    backbone = load_backbone(spec)
    with torch.inference_mode():
        backbone(images)  # what is kept from this pass must not stand in the way
    photos = images.clone().requires_grad_()
    backbone(photos).square().sum().backward()
    assert photos.grad is not None
    assert (photos.grad.flatten(1).abs().sum(dim=1) > 0).all()
    assert all(weight.grad is None for weight in backbone.model.parameters())


def test_positions_named_for_a_pass_are_those_of_a_backbone_loaded_with_them(tiny, images):
    bilinear = load_backbone("tiny", positions="bilinear").trunk(images, stop=2)
    torch.testing.assert_close(tiny.trunk(images, stop=2, positions="bilinear"), bilinear)
    assert (tiny.trunk(images, stop=2) - bilinear).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 4, 64, 64), (1, 64, 64, 3)])
def test_what_is_no_batch_of_images_is_refused(tiny, shape):
    with pytest.raises(ValueError, match=r"shape \(B, 3, h, w\); got"):
        tiny.trunk(torch.zeros(shape))


def test_images_that_are_not_normalized_yet_are_refused(tiny):
    with pytest.raises(TypeError, match=r"floating point; got torch.uint8. Divide"):
        tiny.trunk(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
