"""SFP by its equations: each module against a slow transcription, and identities of the whole."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.detectors.som import Som
from diagnostics.edits.purify_at import PurifyAt
from diagnostics.layout import Grid
from diagnostics.purifiers.keep import Keep
from diagnostics.purifiers.sfp_sum import SfpSum
from diagnostics.taps import Recorder, chain
from segment.encoders.encode_many import encode_many
from segment.encoders.fusion import sinkhorn
from segment.encoders.printed_sfp import PrintedSfp
from segment.method import Encoding
from segment.methods import METHODS

POSITIONS = "bicubic-offset"
BLIND = Som(threshold=1e9)


@pytest.fixture(scope="module")
def small() -> Backbone:
    """Four blocks, so that a slow transcription of all of them is quick."""
    return load_backbone("tiny:depth=4")


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Two images of 3 x 5 patches."""
    return torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(2))


def encoded(backbone: Backbone, images: Tensor, **settings: object) -> Encoding:
    encoder = PrintedSfp(**settings)  # type: ignore[arg-type]
    return encode_many(backbone, images, [replace(METHODS["sfp-paper"], encoder=encoder)])[0]


# A transcription for one image in fp64 over the stock weights, Eq 4-11


def normed(norm: torch.nn.LayerNorm, tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens, norm.weight.shape, norm.weight, norm.bias, norm.eps)


def slow_heads(block: torch.nn.Module, tokens: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """q, k, v of each head: (T, d)."""
    width, each = tokens.shape[1], tokens.shape[1] // block.attn.num_heads
    joint = normed(block.ln_1, tokens) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    q, k, v = (joint[:, place * width : (place + 1) * width] for place in range(3))
    return [tuple(part[:, h * each : (h + 1) * each] for part in (q, k, v)) for h in range(block.attn.num_heads)]


def slow_ffn(block: torch.nn.Module, tokens: Tensor) -> Tensor:
    return block.mlp(normed(block.ln_2, tokens))


def slow_block(block: torch.nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The stock block, and its attention with heads averaged: (T, D), (T, T)."""
    heads = slow_heads(block, tokens)
    maps = [torch.softmax(q @ k.T / q.shape[1] ** 0.5, dim=1) for q, k, _ in heads]
    mixed = torch.cat([each @ v for each, (_, _, v) in zip(maps, heads, strict=True)], dim=1)
    tokens = tokens + block.attn.out_proj(mixed)
    return tokens + slow_ffn(block, tokens), sum(maps) / len(maps)


def slow_purify(tokens: Tensor, attention: Tensor, grid: Grid) -> tuple[Tensor, set[int]]:
    """Eq 4-5 on one layer's output; patches are numbered from 0."""
    outliers = {i for i in range(grid.patches) if attention[1 + i, 1 + i] < attention[0, 1 + i]}
    fixed = tokens.clone()
    for u in outliers:
        row, col = divmod(u, grid.cols)
        total = torch.zeros_like(tokens[0])
        for r in range(max(row - 1, 0), min(row + 2, grid.rows)):
            for c in range(max(col - 1, 0), min(col + 2, grid.cols)):
                if r * grid.cols + c not in outliers:
                    total += tokens[1 + r * grid.cols + c]
        fixed[1 + u] = total / 8
    return fixed, outliers


def slow_sfp(backbone: Backbone, image: Tensor, *, iterations: int, start: int) -> tuple[Tensor, list[set[int]]]:
    """Patches (N, E) of one image (1, 3, h, w), and the outliers of each layer."""
    visual = deepcopy(backbone.model.visual).double()
    *blocks, last = visual.transformer.resblocks
    grid = backbone.layout(image).grid
    tokens = backbone.embed(image, positions=POSITIONS)[0].double()
    total, marked = torch.zeros(grid.patches, grid.patches, dtype=torch.float64), []
    for layer, block in enumerate(blocks, start=1):
        tokens, attention = slow_block(block, tokens)
        tokens, outliers = slow_purify(tokens, attention, grid)
        marked.append(outliers)
        if layer < start:
            continue
        for j in range(grid.patches):
            for i in range(grid.patches):
                total[j, i] += 0 if i in outliers else attention[1 + j, 1 + i]  # Eq 8-9
    maps = []
    for q, k, _ in slow_heads(last, tokens):
        maps.append(torch.softmax(0.5 * (q @ q.T + k @ k.T) / q.shape[1] ** 0.5, dim=1))  # Eq 6
    enhanced = tokens + slow_ffn(last, sum(maps) / len(maps) @ tokens)  # Eq 7
    for _ in range(iterations):  # Eq 10
        total = total / total.sum(dim=1, keepdim=True)
        sums = total.sum(dim=0, keepdim=True)
        total = torch.where(sums > 0, total / sums, 0.0)
    mixed = total @ enhanced[1:]  # Eq 11
    return normed(visual.ln_post, mixed) @ visual.proj, marked


@pytest.mark.parametrize(("iterations", "start"), [(6, 1), (1, 1), (3, 2), (2, 3)])
def test_the_equations_equal_a_slow_transcription(small, images, iterations, start):
    encoding = encoded(small, images, iterations=iterations, integrate_from=start)
    for number in range(2):
        expected, outliers = slow_sfp(small, images[number : number + 1], iterations=iterations, start=start)
        masks = encoding.extras["outliers_by_layer"][number]
        assert [set(mask.nonzero()[:, 0].tolist()) for mask in masks] == outliers
        assert any(outliers)
        torch.testing.assert_close(encoding.patches[number].double(), expected, atol=1e-4, rtol=1e-4)


def test_the_plain_name_is_the_printed_method(small, images):
    plain = encode_many(small, images, ["sfp-paper"])[0]
    assert torch.equal(plain.patches, encoded(small, images, iterations=6, integrate_from=1).patches)


# Mitigator


def test_without_outliers_features_and_attention_stay_as_they_are(small, images):
    """As the supplement, Sec B, has it."""
    blind = encoded(small, images, detector=BLIND)
    kept = encoded(small, images, purifier=Keep())
    assert not blind.extras["outliers_by_layer"].any()
    assert torch.equal(blind.patches, kept.patches)
    stock = Recorder("attention", layers=[1, 2, 3])
    small.trunk(images, stop=3, tap=stock, positions=POSITIONS)
    maps = sum(stock["attention", layer][:, :, 1:, 1:].mean(dim=1) for layer in (1, 2, 3))
    raw = encoded(small, images, detector=BLIND, iterations=0).extras["affinity"]
    torch.testing.assert_close(raw, maps, atol=1e-6, rtol=1e-5)


def test_purified_tokens_go_on_to_later_layers(small, images):
    """With two layers purified, what the third sees is what the edit gives it."""
    edit = PurifyAt(layers=(1, 2), detector=Som(), purifier=SfpSum())
    tokens = small.trunk(images, stop=3, tap=edit, positions=POSITIONS)
    # Without heads and FFN in the way: the enhancer alone on those tokens.
    encoding = encoded(small, images, purify_to=2, integrate=False, kernel="identity", combine="sum", ffn=False)
    torch.testing.assert_close(encoding.patches, small.project(2 * tokens)[:, 1:], atol=1e-5, rtol=1e-5)
    assert encoding.extras["outliers_by_layer"].shape == (2, 2, 15)
    assert torch.equal(encoding.extras["outliers"], edit.masks[2])


def test_layers_that_are_purified_can_be_chosen(small, images):
    encoding = encoded(small, images, purify_from=2, purify_to=-2)
    assert encoding.extras["outliers_by_layer"].shape == (2, 2, 15)


# Enhancer


def test_projected_values_are_those_of_the_last_block(small, images):
    encoding = encoded(small, images, purifier=Keep(), integrate=False, values="projected")
    tokens = small.trunk(images, stop=3, positions=POSITIONS)
    block, heads = small.blocks[3], small.blocks[3].qkv(tokens)
    logits = 0.5 * (heads.q @ heads.q.mT + heads.k @ heads.k.mT) * heads.q.shape[-1] ** -0.5
    expected = small.project(tokens + block.ffn(block.mix(logits.softmax(dim=-1), heads)))
    torch.testing.assert_close(encoding.patches, expected[:, 1:], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(encoding.class_token, expected[:, 0], atol=1e-4, rtol=1e-4)


def test_with_everything_off_it_is_clearclip(small, images):
    """The base of the paper's ablation: no mitigator, no integrator, q-q attention without residual and FFN."""
    bare = "sfp-paper:purifier=keep,integrate=false,kernel=qq,values=projected,residual=false,ffn=false"
    encodings, expected = encode_many(small, images, [bare, "clearclip"])
    torch.testing.assert_close(encodings.patches, expected.patches, atol=1e-5, rtol=1e-5)


def test_prefix_tokens_can_be_left_out_of_the_keys(small, images):
    settings = {"purifier": Keep(), "integrate": False, "residual": False, "ffn": False}
    tokens = small.trunk(images, stop=3, positions=POSITIONS)
    encoding = encoded(small, images, class_in_keys=False, combine="sum", kernel="kk", **settings)
    k = small.blocks[3].qkv(tokens).k
    weights = (k @ k[:, :, 1:].mT * k.shape[-1] ** -0.5).softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(encoding.patches, small.project(weights @ tokens[:, 1:])[:, 1:], atol=1e-5, rtol=1e-5)


# Integrator


def test_columns_of_outliers_are_empty(small, images):
    encoding = encoded(small, images, integrate_from=3)
    mask, affinity = encoding.extras["outliers"], encoding.extras["affinity"]
    assert mask.any()
    empty = (affinity == 0).all(dim=1)
    assert torch.equal(empty, mask)
    torch.testing.assert_close(affinity.sum(dim=1), (~mask).float(), atol=1e-5, rtol=1e-5)


def test_heads_can_be_reduced_by_their_largest(small, images):
    stock = Recorder("attention", layers=[3])
    small.trunk(images, stop=3, tap=stock, positions=POSITIONS)
    raw = encoded(small, images, purifier=Keep(), integrate_from=3, iterations=0, map_heads="max").extras["affinity"]
    torch.testing.assert_close(raw, stock["attention"][:, :, 1:, 1:].amax(dim=1), atol=1e-6, rtol=1e-5)


def test_norm_and_projection_can_come_before_the_mix(small, images):
    bare = encoded(small, images, integrate=False)
    before = encoded(small, images, norm_at="before")
    weights = before.extras["affinity"]
    torch.testing.assert_close(before.patches, weights @ bare.patches, atol=1e-5, rtol=1e-5)
    after = encoded(small, images, norm_at="after")
    assert torch.equal(after.extras["affinity"], weights)
    assert torch.equal(after.class_token, before.class_token)
    assert not torch.allclose(after.patches, before.patches, atol=1e-2)


def test_maps_of_purified_passes_are_added_up_as_the_layers_give_them(small, images):
    edit = PurifyAt(layers=(1, 2, 3), detector=Som(), purifier=SfpSum())
    recorder = Recorder("attention")
    small.trunk(images, stop=3, tap=chain(recorder, edit), positions=POSITIONS)
    total = sum(
        recorder["attention", layer][:, :, 1:, 1:].mean(dim=1).masked_fill(edit.masks[layer][:, None], 0)
        for layer in (1, 2, 3)
    )
    encoding = encoded(small, images, iterations=4).extras["affinity"]
    torch.testing.assert_close(encoding, sinkhorn(total, 4), atol=1e-5, rtol=1e-5)


# As a whole


def test_a_batch_equals_its_images_one_by_one(tiny, images):
    together = encode_many(tiny, images, ["sfp-paper"])[0]
    for number in range(2):
        alone = encode_many(tiny, images[number : number + 1], ["sfp-paper"])[0]
        assert torch.equal(together.extras["outliers_by_layer"][number], alone.extras["outliers_by_layer"][0])
        torch.testing.assert_close(together.patches[number], alone.patches[0], atol=1e-4, rtol=1e-4)


def test_any_detector_and_purifier_fit_and_a_class_token_is_not_needed(images):
    backbone = load_backbone("tiny:class_token=false")
    spec = "sfp-paper:detector=norm-topk(count=3),purifier=median"
    encoding = encode_many(backbone, images, [spec])[0]
    assert encoding.class_token is None
    assert (encoding.extras["outliers_by_layer"].sum(dim=2) == 3).all()


def test_registers_are_carried_along(images):
    backbone = load_backbone("tiny:registers=4")
    encoding = encode_many(backbone, images, ["sfp-paper"])[0]
    assert encoding.patches.shape == (2, 15, 48)
    assert encoding.extras["affinity"].shape == (2, 15, 15)


def test_a_image_all_of_whose_patches_are_marked_stays_finite(small, images):
    encoding = encoded(small, images, detector=NormTopK(count=15))
    assert encoding.extras["outliers_by_layer"].all()
    assert torch.isfinite(encoding.patches).all()


def test_the_stock_pass_is_not_changed(small, images):
    """Other methods read from it in the same call."""
    alone = encode_many(small, images, ["clearclip"])[0]
    beside = encode_many(small, images, ["sfp-paper", "clearclip"])[1]
    assert torch.equal(alone.patches, beside.patches)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sfp-paper:purify_to=4", "purified after blocks among 1…3"),
        ("sfp-paper:purify_from=3,purify_to=2", "`purify_from` and `purify_to` name 3 and 2"),
        ("sfp-paper:integrate_from=4", "`integrate_from` names 4"),
        ("sfp-paper:purify_from=9", "`layer` should lie in 0…4"),
        ("sfp-paper:iterations=-1", "`iterations` should be at least 0"),
        ("sfp-paper:values=keys", "should be one of tokens, projected"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(small, images, spec, message):
    with pytest.raises(ValueError, match=message):
        encode_many(small, images, [spec])


def test_unknown_words_are_refused_where_no_spec_is_read():
    with pytest.raises(ValueError, match="there is no norm_at `between`"):
        PrintedSfp(norm_at="between")


@pytest.mark.parametrize(
    ("backbone", "message"),
    [("tiny:depth=1", "the model has a single one"), ("tiny:class_token=false", "no class token")],
)
def test_models_that_it_cannot_run_on_are_refused(images, backbone, message):
    with pytest.raises(ValueError, match=message):
        encode_many(load_backbone(backbone), images, ["sfp-paper"])
