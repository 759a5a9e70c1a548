"""The second stream against transcriptions with whole matrices, one block after the other."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.backbones.base import QKV
from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.detectors.singular_defect import SingularDefect
from diagnostics.taps import Recorder
from segment.encoders.dual_path import DualPath, recorded_heads, stock_class_token
from segment.encoders.encode_many import encode_many, stock_forward
from segment.method import Encoding
from segment.methods import METHODS

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
MODELS = ["tiny", "tiny:registers=4", "tiny:class_token=false"]


def surgery_matrix(heads: QKV, image: int, head: int) -> Tensor:
    v = heads.v[image, head]
    return (v @ v.T / math.sqrt(v.shape[-1])).softmax(dim=-1)


def gem_matrix(heads: QKV, image: int, head: int, *, iterations: int = 1) -> Tensor:
    lengths = [float(token.norm()) for token in heads.normed[image]]
    sharpness = sum(lengths) / len(lengths) / math.sqrt(heads.v.shape[-1])
    total = torch.zeros(len(lengths), len(lengths))
    for part in (heads.q, heads.k, heads.v):
        rows = part[image, head]
        for _ in range(iterations):
            rows = torch.stack([row / row.norm() for row in rows])
            rows = (sharpness * rows @ rows.T).softmax(dim=-1) @ rows
        rows = torch.stack([row / row.norm() for row in rows])
        total += (sharpness * rows @ rows.T).softmax(dim=-1)
    return total / 3


def slow(
    backbone: Backbone,
    tokens: Tensor,
    matrix: Callable[[QKV, int, int], Tensor],
    *,
    blocks: int = 6,
    early_attention: bool = True,
    purify: Callable[[Tensor], Tensor] = lambda tokens: tokens,
) -> Tensor:
    """Both streams, block by block, from the embedding on: the second one's tokens (B, T, D)."""
    second = tokens
    for layer, block in enumerate(backbone.blocks, start=1):
        heads = block.qkv(tokens)
        if layer > backbone.depth - blocks:
            read = purify(tokens)
            if layer == backbone.depth - blocks + 1:
                second = read
            projected = block.qkv(read)
            weights = torch.stack(
                [
                    torch.stack([matrix(projected, image, head) for head in range(block.heads)])
                    for image in range(len(tokens))
                ]
            )
            second = second + block.mix(weights, projected)
        elif not early_attention:
            alone = tokens + block.merge_heads(heads.v, heads.normed)
            tokens = alone + block.ffn(alone)
            continue
        logits = heads.q @ heads.k.mT / math.sqrt(heads.q.shape[-1])
        summed = tokens + block.mix(logits.softmax(dim=-1), heads)
        tokens = summed + block.ffn(summed)
    return second


def encoding_of(backbone: Backbone, images: Tensor, spec: str) -> Encoding:
    return encode_many(backbone, images, [spec])[0]


@pytest.mark.parametrize("model", MODELS)
def test_clip_surgery_adds_what_values_say_of_values(images, model):
    backbone = load_backbone(model)
    expected = slow(backbone, backbone.embed(images, positions="bilinear"), surgery_matrix)
    encoding = encoding_of(backbone, images, "clip-surgery")
    torch.testing.assert_close(encoding.patches, backbone.project(expected)[:, backbone.prefix :], **CLOSE)


@pytest.mark.parametrize("model", MODELS)
def test_printed_gem_adds_three_refined_self_attentions(images, model):
    backbone = load_backbone(model)
    expected = slow(backbone, backbone.embed(images, positions="bicubic-antialiased"), gem_matrix)
    encoding = encoding_of(backbone, images, "gem-paper")
    torch.testing.assert_close(encoding.patches, backbone.project(expected)[:, backbone.prefix :], **CLOSE)


@pytest.mark.parametrize("model", MODELS)
def test_released_gem_has_no_attention_before_the_second_stream(images, model):
    backbone = load_backbone(model)
    tokens = backbone.embed(images, positions="bicubic-antialiased")
    expected = slow(backbone, tokens, gem_matrix, early_attention=False)
    encoding = encoding_of(backbone, images, "gem")
    torch.testing.assert_close(encoding.patches, backbone.project(expected)[:, backbone.prefix :], **CLOSE)
    assert not torch.allclose(encoding.patches, encoding_of(backbone, images, "gem-paper").patches, atol=0.1)


def test_gems_release_feeds_tokens_as_a_batch_to_todays_open_clip(tiny, images):
    # Where `early=identity` comes from: one image in the order (T, B, D) through stock blocks that take (B, T, D).
    tokens = tiny.embed(images[:1], positions="bicubic-antialiased")
    turned = tokens.transpose(0, 1)
    for block in tiny.model.visual.transformer.resblocks[:6]:
        turned = block(turned)
    torch.testing.assert_close(
        tiny.project(slow(tiny, tokens, gem_matrix, early_attention=False)),
        tiny.project(
            slow_from(tiny, turned.transpose(0, 1)),
        ),
        **CLOSE,
    )


def slow_from(backbone: Backbone, tokens: Tensor) -> Tensor:
    """GEM's second stream from what enters the seventh block."""
    second = tokens
    for block in backbone.blocks[6:]:
        heads = block.qkv(tokens)
        weights = torch.stack([torch.stack([gem_matrix(heads, 0, head) for head in range(block.heads)])])
        second = second + block.mix(weights, heads)
        tokens = block(tokens)
    return second


@pytest.mark.parametrize("blocks", [1, 3, 12])
def test_the_number_of_doubled_blocks_is_a_setting(tiny, images, layout, blocks):
    tokens = tiny.embed(images, positions="bilinear")
    expected = slow(tiny, tokens, surgery_matrix, blocks=blocks)
    encoding = encoding_of(tiny, images, f"clip-surgery:blocks={blocks}")
    torch.testing.assert_close(encoding.patches, layout.patches(tiny.project(expected)), **CLOSE)


@pytest.mark.parametrize("iterations", [0, 2])
def test_the_number_of_refinements_is_a_setting(tiny, images, layout, iterations):
    tokens = tiny.embed(images, positions="bicubic-antialiased")
    expected = slow(tiny, tokens, lambda *place: gem_matrix(*place, iterations=iterations))
    encoding = encoding_of(tiny, images, f"gem-paper:iterations={iterations}")
    torch.testing.assert_close(encoding.patches, layout.patches(tiny.project(expected)), **CLOSE)


def test_the_temperature_can_be_a_number(tiny, images, layout):
    def matrix(heads: QKV, image: int, head: int) -> Tensor:
        unit = F.normalize(heads.k[image, head], dim=-1)
        return (7.0 * unit @ unit.T).softmax(dim=-1)

    expected = slow(tiny, tiny.embed(images, positions="bilinear"), matrix, blocks=2)
    encoding = encoding_of(tiny, images, "clip-surgery:kernel=kk,unit=true,inverse_temperature=7,blocks=2")
    torch.testing.assert_close(encoding.patches, layout.patches(tiny.project(expected)), **CLOSE)


def test_other_settings_than_the_published_ones_run(tiny, images):
    plain = encoding_of(tiny, images, "clip-surgery").patches
    for settings in ("kernel=qk", "kernel=qq+kk,combine=joint", "kernel=identity", "iterations=1", "early=identity"):
        encoding = encoding_of(tiny, images, f"clip-surgery:{settings}").patches
        assert encoding.isfinite().all()
        assert not torch.allclose(encoding, plain, atol=1e-3)


@pytest.mark.parametrize("name", ["clip-surgery", "gem-paper"])
def test_the_class_token_is_the_stock_one(tiny, images, name):
    positions = METHODS[name].positions
    stock = tiny.project(tiny.trunk(images, positions=positions))[:, 0]
    for purification in ("", ":detector=norm-topk,purifier=zero"):
        torch.testing.assert_close(encoding_of(tiny, images, name + purification).class_token, stock, **CLOSE)


def test_without_a_class_token_there_is_none(images):
    assert encoding_of(load_backbone("tiny:class_token=false"), images, "gem").class_token is None


@pytest.mark.parametrize("early", ["stock", "identity"])
def test_the_second_stream_reads_purified_tokens_and_the_stock_stream_goes_on_unpurified(tiny, images, layout, early):
    masks = []

    def purify(tokens: Tensor) -> Tensor:
        norms = layout.patches(tokens).norm(dim=-1)
        mask = torch.zeros_like(norms, dtype=torch.bool).scatter(1, norms.topk(2, dim=1).indices, True)
        masks.append(mask)
        kept = layout.patches(tokens).masked_fill(mask[..., None], 0)
        return torch.cat([tokens[:, : layout.prefix], kept], dim=1)

    tokens = tiny.embed(images, positions="bilinear")
    expected = slow(tiny, tokens, surgery_matrix, purify=purify, early_attention=early == "stock")
    encoding = encoding_of(tiny, images, f"clip-surgery:early={early},detector=norm-topk(count=2),purifier=zero")
    torch.testing.assert_close(encoding.patches, layout.patches(tiny.project(expected)), **CLOSE)
    assert torch.equal(encoding.extras["outliers"], torch.stack(masks).any(dim=0))
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 1  # found anew at every block


@pytest.mark.parametrize("early", ["stock", "identity"])
def test_a_detector_that_looks_at_attention_finds_it_at_every_doubled_block(tiny, images, early):
    encoding = encoding_of(tiny, images, f"gem-paper:early={early},detector=som,purifier=zero")
    assert encoding.extras["outliers"].any()
    assert not torch.allclose(
        encoding.patches, encoding_of(tiny, images, f"gem-paper:early={early}").patches, atol=1e-3
    )


def test_a_detector_that_learns_is_fitted_to_every_block_whose_input_it_purifies(tiny, images):
    method = METHODS.build("clip-surgery:blocks=2,detector=singular-defect(samples=1),purifier=zero")
    fitted = method.fitted(tiny, images)
    assert fitted.encoder.detector.layers == (10, 11)
    assert fitted.encoder.detector.detectors[0] == SingularDefect(samples=1).fitted(tiny, images, 10)
    (encoding,) = encode_many(tiny, images, [fitted])
    assert encoding.patches.isfinite().all()
    # Where nothing is purified, nothing is learned.
    idle = METHODS.build("clip-surgery:detector=singular-defect")
    assert idle.fitted(tiny, images) is idle


def test_recorded_queries_keys_and_values_are_those_made_anew(tiny, images):
    stock = stock_forward(tiny, images, [METHODS["clip-surgery"]])
    assert stock.recording.layers("query") == [7, 8, 9, 10, 11]
    for layer in (7, 11):
        for recorded, made in zip(recorded_heads(stock, layer)[:4], stock.heads(layer)[:4], strict=True):
            assert torch.equal(recorded, made)


def test_the_stock_pass_ends_before_the_last_block(tiny, images):
    stock = stock_forward(tiny, images, [METHODS["gem-paper"]])
    assert max(layer for _, layer in stock.recording.values) == 11
    recorder = Recorder("block_out", layers=[12])
    tiny.trunk(images, tap=recorder)
    torch.testing.assert_close(stock_class_token(stock), recorder["block_out"][:, 0], **CLOSE)


def test_a_model_with_fewer_blocks_is_refused_with_the_setting_to_change(images):
    shallow = load_backbone("tiny:depth=4")
    with pytest.raises(ValueError, match=r"`gem` can't run on .*last 6 blocks of 4. Set blocks=4 or less"):
        encoding_of(shallow, images, "gem")
    assert encoding_of(shallow, images, "gem:blocks=4").patches.isfinite().all()


def test_what_the_embedding_lacks_can_not_be_looked_for_there(tiny, images):
    with pytest.raises(
        ValueError, match=r"detector reads `query`, which the embedding lacks; take one that reads tokens"
    ):
        encoding_of(tiny, images, "clip-surgery:blocks=12,detector=som,purifier=zero")
    purified = encoding_of(tiny, images, "clip-surgery:blocks=12,detector=norm-topk(count=2),purifier=zero")
    assert purified.extras["outliers"].sum(dim=1).min() >= 2


@pytest.mark.parametrize(
    "settings,message",
    [
        ({"blocks": 0}, "`blocks` should be at least 1"),
        ({"iterations": -1}, "`iterations` should be at least 0"),
        ({"inverse_temperature": 0.0}, "`inverse_temperature` should be above 0"),
        ({"inverse_temperature": "cold"}, "should be width, norms or a number; got `cold`"),
        ({"kernel": "vq"}, "no attention kernel `vq`"),
        ({"early": "none"}, "there is no early `none`. Known: identity, stock"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DualPath(**settings)


def test_the_defaults_are_clip_surgerys_and_norm_topk_marks_a_quota(tiny, images):
    assert METHODS["clip-surgery"].encoder == DualPath()
    encoding = encoding_of(tiny, images, "clip-surgery:blocks=1,detector=norm-topk,purifier=zero")
    assert encoding.extras["outliers"].sum(dim=1).tolist() == [NormTopK().count] * 2
