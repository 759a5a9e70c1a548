"""CLIPtrase's correlations and features against slow transcriptions of its equations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.backbones.base import attention_weights
from diagnostics.detectors.random import RandomScores
from diagnostics.images import denormalize
from diagnostics.layout import Grid, Layout
from diagnostics.purifiers.zero import Zero
from diagnostics.taps import Recorder
from segment.encoders.correlation import Correlation, above_class_row, correlation_map, own_excess, within_classes
from segment.encoders.encode_many import encode_many, stock_forward
from segment.method import Method, Paper

PRINTED = Correlation(weights="correlation", affinity_layer=-1, denoise="self")


def encode(backbone, images, encoder):
    method = Method(encoder=encoder, paper=Paper(title="", venue=""), summary="")
    with torch.no_grad():
        return encoder(stock_forward(backbone, images, [method]))


def random_streams(seed=0, batch=2, heads=3, tokens=5, width=4):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, heads, tokens, width, generator=generator) for _ in range(3)]


def cosine(a, b):
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_per_head_correlation_is_equation_3():
    streams = random_streams()
    arrays = [stream.double().numpy() for stream in streams]
    expected = np.zeros((2, 5, 5))
    for b in range(2):
        for i in range(5):
            for j in range(5):
                terms = [cosine(x[b, h, i], x[b, h, j]) for x in arrays for h in range(3)]
                expected[b, i, j] = sum(terms) / (3 * 3)
    assert np.allclose(correlation_map(streams).numpy(), expected, atol=1e-6)


def test_concatenated_correlation_is_equations_12_to_14():
    streams = random_streams(seed=1)
    expected = np.zeros((2, 5, 5))
    for b in range(2):
        for i in range(5):
            for j in range(5):
                for x in streams:
                    first = np.concatenate([x[b, h, i].double().numpy() for h in range(3)])
                    second = np.concatenate([x[b, h, j].double().numpy() for h in range(3)])
                    expected[b, i, j] += cosine(first, second) / 3
    correlation = correlation_map(streams, joining="concatenated").numpy()
    assert np.allclose(correlation, expected, atol=1e-6)
    assert not np.allclose(correlation, correlation_map(streams).numpy(), atol=1e-2)


@pytest.mark.parametrize("joining, width, parts", [("heads", 4, 9), ("concatenated", 12, 3)])
def test_inner_products_are_scaled_like_attention_logits(joining, width, parts):
    streams = random_streams(seed=2)
    expected = sum(torch.einsum("bhid,bhjd->bij", x, x) for x in streams) / width**0.5 / parts
    assert torch.allclose(correlation_map(streams, similarity="inner-product", joining=joining), expected, atol=1e-5)


def test_a_zero_vector_correlates_with_nothing_and_others_with_themselves_fully():
    streams = [stream.clone() for stream in random_streams()]
    for stream in streams:
        stream[:, :, 2] = 0
    correlation = correlation_map(streams)
    assert (correlation[:, 2] == 0).all()
    assert (correlation[:, :, 2] == 0).all()
    assert torch.allclose(correlation.diagonal(dim1=1, dim2=2)[:, [0, 1, 3, 4]], torch.ones(2, 4), atol=1e-6)


def test_the_class_tokens_row_is_subtracted_column_by_column():
    # Class token second of two prefix tokens, then two patches.
    correlation = torch.tensor([[[9.0, 9, 9, 9], [9, 9, 0.5, 0.25], [9, 9, 1.0, 0.75], [9, 9, 0.25, 1.0]]])
    difference = above_class_row(correlation, Layout(prefix=2, grid=Grid(1, 2), class_index=1))
    assert torch.equal(difference, torch.tensor([[[0.5, 0.5], [0.0, 0.75]]]))


def test_equation_7_is_the_mean_of_a_row_less_its_own_entry():
    affinity = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(3))
    for b in range(2):
        for i in range(6):
            expected = sum(float(affinity[b, i, j]) for j in range(6)) / 6 - float(affinity[b, i, i])
            assert float(own_excess(affinity)[b, i]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("joining", ["heads", "concatenated"])
@pytest.mark.parametrize("kind", ["random", "global patches", "all alike"])
def test_printed_equation_7_can_never_drop_a_patch_as_a_cosine_with_itself_is_the_rows_maximum(joining, kind):
    for seed in range(20):
        streams = random_streams(seed, tokens=8)
        if kind == "global patches":  # long, and nearly the same direction
            streams = [torch.cat([20 * x[:, :, :1] + x[:, :, :4], x[:, :, 4:]], dim=2) for x in streams]
        elif kind == "all alike":
            streams = [x[:, :, :1].expand_as(x) for x in streams]
        affinity = correlation_map(streams, joining=joining)
        diagonal = affinity.diagonal(dim1=1, dim2=2)
        assert (affinity <= diagonal[:, :, None] + 1e-6).all()
        assert (own_excess(affinity) <= 1e-6).all()


def test_equation_7_acts_on_inner_products_alone(tiny, images, layout):
    encoder = Correlation(affinity_layer=11, denoise="self", similarity="inner-product")
    method = Method(encoder=encoder, paper=Paper(title="", venue=""), summary="")
    stock = stock_forward(tiny, images, [method])
    # One patch is much like all others, and far shorter.
    for name in ("query", "key", "value"):
        stream = stock.recording[name, 11] + 1
        stream[1, :, 1 + 5] *= 0.05
        stock.recording.values[name, 11] = stream
    short = torch.zeros(2, 24, dtype=torch.bool)
    short[1, 5] = True
    assert torch.equal(encoder(stock).extras["kept"], ~short)
    assert replace(encoder, similarity="cosine")(stock).extras["kept"].all()


def test_an_inner_product_row_with_a_larger_mean_than_its_own_entry_is_dropped():
    short, long = torch.tensor([0.1, 0.0]), torch.tensor([1.0, 0.0])
    streams = [torch.stack([short, long, long])[None, None]] * 3
    affinity = correlation_map(streams, similarity="inner-product")
    assert (own_excess(affinity) > 0).tolist() == [[True, False, False]]


def test_printed_features_are_values_weighted_by_the_correlation_with_residual_and_ffn(tiny, images):
    encoding = encode(tiny, images, replace(PRINTED, raw_maps=True))
    tokens, block = tiny.trunk(images, stop=-2), tiny.blocks[-1]
    heads = block.qkv(tokens)
    weights = encoding.extras["correlation"]
    mixed = torch.zeros_like(heads.v)
    for i in range(tokens.shape[1]):
        for j in range(tokens.shape[1]):
            mixed[:, :, i] += weights[:, None, i, j, None] * heads.v[:, :, j]
    expected = tokens + block.merge_heads(mixed, heads.normed)
    expected = tiny.project(expected + block.ffn(expected))
    assert torch.allclose(encoding.patches, expected[:, 1:], atol=1e-5)
    assert torch.allclose(encoding.class_token, expected[:, 0], atol=1e-5)
    assert torch.equal(weights, correlation_map(heads[:3]))
    assert torch.equal(encoding.extras["affinity"], weights[:, 1:, 1:])


def test_released_features_add_three_softmaxes_in_every_head(tiny, images):
    encoding = encode(tiny, images, Correlation())
    tokens, block = tiny.trunk(images, stop=-2), tiny.blocks[-1]
    heads = block.qkv(tokens)
    weights = sum(attention_weights(x, x) for x in heads[:3])
    expected = tokens + block.mix(weights, heads)
    expected = tiny.project(expected + block.ffn(expected))
    assert torch.allclose(weights.sum(dim=-1), torch.tensor(3.0))
    assert torch.allclose(encoding.patches, expected[:, 1:], atol=1e-5)


def test_residual_and_ffn_can_be_left_out(tiny, images):
    encoding = encode(tiny, images, Correlation(residual=False, ffn=False))
    block = tiny.blocks[-1]
    heads = block.qkv(tiny.trunk(images, stop=-2))
    expected = tiny.project(block.mix(sum(attention_weights(x, x) for x in heads[:3]), heads))
    assert torch.allclose(encoding.patches, expected[:, 1:], atol=1e-5)


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_within_classes_a_patch_keeps_the_weights_of_patches_of_its_own_label(prefix):
    layout = Layout(prefix=prefix, grid=Grid(2, 3), class_index=0 if prefix else None)
    labels = torch.tensor([[4, 4, 0, 7, 4, 0], [1, 1, 1, 1, 1, 2]])
    correlation = torch.rand(2, layout.tokens, layout.tokens, generator=torch.Generator().manual_seed(6)) - 0.5
    expected = correlation.clone()
    for b in range(2):
        for i in range(6):
            expected[b, prefix + i, :prefix] = 0
            for j in range(6):
                if labels[b, i] != labels[b, j]:
                    expected[b, prefix + i, prefix + j] = 0
    copy = correlation.clone()
    assert torch.equal(within_classes(correlation, labels, layout), expected)
    assert torch.equal(correlation, copy)


@pytest.mark.parametrize("spec", ["tiny", "tiny:registers=2", "tiny:class_token=false"])
def test_features_within_the_true_regions_are_those_of_a_plain_loop(spec):
    backbone = load_backbone(spec)
    dice = torch.Generator().manual_seed(7)
    images = torch.randn(2, 3, 60, 90, generator=dice)  # padded to 64 x 96 by 2 and 3 pixels on each side
    labels = torch.randint(0, 3, (2, 60, 90), generator=dice)
    labels[0, :, 40:] = 255  # unscored pixels are a region of their own
    labels[1, :29] = 2
    method = "cliptrase-paper:vote=none,within=class"
    within = encode_many(backbone, images, [method], positions="bicubic", labels=labels)[0]

    def majority(number, row, col):
        top, left = 16 * row - 2, 16 * col - 3
        part = labels[number, max(top, 0) : top + 16, max(left, 0) : left + 16].flatten().tolist()
        return min(part, key=lambda value: (-part.count(value), value))

    regions = [[majority(number, row, col) for row in range(4) for col in range(6)] for number in range(2)]
    assert 255 in regions[0]
    assert regions[0] != regions[1]
    with torch.no_grad():
        tokens, block = backbone.trunk(images, stop=-2, positions="bicubic"), backbone.blocks[-1]
        heads, prefix = block.qkv(tokens), backbone.layout(images).prefix
        weights, mixed = correlation_map(heads[:3]), torch.zeros_like(heads.v)
        for b in range(2):
            for i in range(24):
                for j in range(24):
                    if regions[b][i] == regions[b][j]:
                        mixed[b, :, prefix + i] += weights[b, prefix + i, prefix + j] * heads.v[b, :, prefix + j]
        out = tokens + block.merge_heads(mixed, heads.normed)
        expected = backbone.project(out + block.ffn(out))[:, prefix:]
    assert torch.allclose(within.patches, expected, atol=1e-5)
    plain = encode_many(backbone, images, ["cliptrase-paper:vote=none"], positions="bicubic")[0]
    assert not torch.allclose(within.patches, plain.patches, atol=1e-2)


def test_true_regions_without_labels_or_with_a_softmax_are_refused_with_the_way_out(tiny, images):
    with pytest.raises(ValueError, match=r"`cliptrase-paper:within=class` looks at the true labels.*outliers evaluate"):
        encode_many(tiny, images, ["clip", "cliptrase-paper:within=class"])
    labels = torch.zeros(2, 10, 10, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"a map for each image, \(2, 64, 96\); got \(2, 10, 10\)"):
        encode_many(tiny, images, ["cliptrase-paper:within=class"], labels=labels)
    with pytest.raises(ValueError, match="set `weights=correlation`"):
        encode_many(tiny, images, ["cliptrase:within=class"], labels=torch.zeros(2, 64, 96, dtype=torch.int64))


@pytest.mark.parametrize("layer", [9, -2, 1])
def test_the_affinity_is_that_of_the_layer_asked_for(tiny, images, layer, layout):
    encoding = encode(tiny, images, Correlation(affinity_layer=layer, raw_maps=True)).extras
    recorder = Recorder("query", "key", "value", layers=[layer])
    tiny.trunk(images, tap=recorder)
    expected = correlation_map([recorder[name] for name in ("query", "key", "value")])
    assert torch.allclose(encoding["correlation"], expected, atol=1e-6)
    assert torch.allclose(encoding["affinity"], above_class_row(expected, layout), atol=1e-6)


@pytest.mark.parametrize("layer", [10, -3])
def test_blocks_after_the_recovered_one_stay_as_they_are(tiny, images, layer):
    encoding = encode(tiny, images, Correlation(recover_at=layer))
    tokens, block = tiny.trunk(images, stop=9), tiny.blocks[9]
    heads = block.qkv(tokens)
    tokens = tokens + block.mix(sum(attention_weights(x, x) for x in heads[:3]), heads)
    tokens = tokens + block.ffn(tokens)
    expected = tiny.project(tiny.run(tokens, start=11))
    assert torch.allclose(encoding.patches, expected[:, 1:], atol=1e-5)


def test_purified_patches_enter_the_block_and_its_own_correlations(tiny, images, layout):
    encoder = replace(PRINTED, detector=RandomScores(count=3), purifier=Zero(), raw_maps=True)
    encoding = encode(tiny, images, encoder)
    outliers = encoding.extras["outliers"]
    assert outliers.sum(dim=1).tolist() == [3, 3]
    tokens = tiny.trunk(images, stop=-2).clone()
    tokens[:, 1:][outliers] = 0
    heads = tiny.blocks[-1].qkv(tokens)
    assert torch.allclose(encoding.extras["correlation"], correlation_map(heads[:3]), atol=1e-6)
    assert not torch.allclose(encoding.patches, encode(tiny, images, PRINTED).patches, atol=1e-3)


def test_the_affinity_of_an_earlier_layer_does_not_know_of_the_purifying(tiny, images):
    purified = encode(tiny, images, Correlation(detector=RandomScores(count=3), purifier=Zero()))
    plain = encode(tiny, images, Correlation())
    assert torch.equal(purified.extras["affinity"], plain.extras["affinity"])
    assert not torch.allclose(purified.patches, plain.patches, atol=1e-3)


def test_a_detector_is_fitted_at_the_layer_before_the_recovered_block():
    assert Correlation().purify_at_layer == -2
    assert Correlation(recover_at=9).purify_at_layer == 8


def test_the_image_comes_back_as_it_was_with_the_mean_color_in_its_padding(tiny):
    image = torch.rand(1, 3, 60, 90, generator=torch.Generator().manual_seed(5))
    mean, std = (torch.tensor(value)[:, None, None] for value in (tiny.mean, tiny.std))
    encoding = encode(tiny, (image - mean) / std, Correlation()).extras["image"]
    assert encoding.shape == (1, 3, 64, 96)
    assert torch.allclose(encoding[..., 2:62, 3:93], image, atol=1e-6)
    assert torch.allclose(encoding[0, :, 0, 0], mean[:, 0, 0], atol=1e-6)


def test_what_comes_out_is_the_same_alone_and_in_a_batch(tiny, images):
    for encoder in (Correlation(), PRINTED):
        together = encode(tiny, images, encoder)
        for number in range(2):
            alone = encode(tiny, images[number : number + 1], encoder)
            assert torch.allclose(alone.patches[0], together.patches[number], atol=1e-5)
            assert torch.allclose(alone.extras["affinity"][0], together.extras["affinity"][number], atol=1e-6)


def test_half_precision_gives_an_affinity_in_single_precision(images):
    backbone = load_backbone("tiny", precision="bf16")
    encoding = encode(backbone, images, PRINTED)
    assert encoding.extras["affinity"].dtype == torch.float32
    assert encoding.extras["image"].dtype == torch.float32
    assert torch.isfinite(encoding.patches).all()


def test_a_model_without_class_token_is_refused_with_the_way_out_which_works(images):
    backbone = load_backbone("tiny:class_token=false")
    layout = backbone.layout(images)
    assert "set `denoise=none`" in str(Correlation().unsupported_reason(backbone, layout))
    without = Correlation(denoise="none")
    assert without.unsupported_reason(backbone, layout) is None
    encoding = encode(backbone, images, without)
    assert encoding.class_token is None
    assert encoding.extras["affinity"].shape == (2, 24, 24)


def test_registers_take_part_in_the_correlations_but_not_in_the_affinity(images):
    backbone = load_backbone("tiny:registers=4")
    encoding = encode(backbone, images, Correlation(raw_maps=True)).extras
    assert encoding["correlation"].shape == (2, 29, 29)
    layout = backbone.layout(images)
    assert torch.equal(encoding["affinity"], above_class_row(encoding["correlation"], layout))


def test_layers_that_are_not_there_are_refused(tiny, images, layout):
    assert "1…12" in str(Correlation(recover_at=13).unsupported_reason(tiny, layout))
    assert "1…12" in str(Correlation(affinity_layer=-13).unsupported_reason(tiny, layout))
    assert Correlation(recover_at=-12).unsupported_reason(tiny, layout) is None
    purification = Correlation(recover_at=1, detector=RandomScores(), purifier=Zero())
    assert "block 1" in str(purification.unsupported_reason(tiny, layout))
    with pytest.raises(ValueError, match="`recover_at` should be a block"):
        Correlation(recover_at=0)


def test_weights_and_images_stay_as_they_were(tiny, images):
    before = [parameter.clone() for parameter in tiny.model.parameters()]
    copy = images.clone()
    encode(tiny, images, PRINTED)
    assert torch.equal(images, copy)
    assert all(torch.equal(a, b) for a, b in zip(before, tiny.model.parameters(), strict=True))


def test_the_denormalized_image_uses_the_backbones_own_statistics(images):
    backbone = load_backbone("tiny:registers=4")
    encoding = encode(backbone, images, Correlation(denoise="none")).extras["image"]
    assert torch.allclose(encoding, denormalize(images, backbone.mean, backbone.std).clamp(0, 1))
