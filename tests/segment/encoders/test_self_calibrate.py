"""The path of SC-CLIP's and SFP's releases: against a slow transcription, and the identities of its settings."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.detectors.lof import LocalOutlierFactor
from diagnostics.detectors.lof_release import LofRelease
from diagnostics.detectors.norm_topk import NormTopK
from diagnostics.layout import Grid, Layout
from diagnostics.purifiers.keep import Keep
from diagnostics.purifiers.neighbor_mean import NeighborMean
from diagnostics.taps import Recorder, Recording
from segment.encoders.encode_many import encode_many, stock_forward
from segment.encoders.last_block import LastBlock
from segment.encoders.self_calibrate import SelfCalibrated
from segment.method import Activations, Encoder, Encoding
from segment.methods import METHODS

GRID = Grid(5, 8)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Two images of 5 x 8 patches: enough for 30 neighbors, and not square."""
    return torch.randn(2, 3, 80, 128, generator=torch.Generator().manual_seed(1))


def encoded(backbone: Backbone, images: Tensor, encoder: Encoder) -> Encoding:
    """One encoder on images, at the positions of every other one here."""
    return encode_many(backbone, images, [replace(METHODS["sc-clip"], encoder=encoder)])[0]


# A transcription for one image in fp64, patch by patch, over the stock weights


def slow_purified(patches: Tensor, mask: list[bool], grid: Grid, isolated: str) -> Tensor:
    fixed = patches.clone()
    for number, marked in enumerate(mask):
        if not marked:
            continue
        row, col = divmod(number, grid.cols)
        around = [
            (row + down) * grid.cols + col + right
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if 0 <= row + down < grid.rows and 0 <= col + right < grid.cols
        ]
        valid = [patches[other] for other in around if not mask[other]]
        if valid:
            fixed[number] = sum(valid) / len(valid)
        elif isolated == "zero":
            fixed[number] = 0
    return fixed


def slow_cosine(patches: Tensor) -> Tensor:
    """A zero patch is similar to none, where the releases divide by its norm."""
    lengths = [max(float(x.norm()), 1e-300) for x in patches]
    unit = torch.stack([x / length for x, length in zip(patches, lengths, strict=True)])
    return torch.stack([torch.stack([x @ y for y in unit]) for x in unit])


def slow_mean(weights: Tensor, patches: Tensor) -> Tensor:
    return torch.stack([sum(w * x for w, x in zip(row, patches, strict=True)) / (row.sum() + 1e-6) for row in weights])


def slow_gate(affinity: Tensor) -> Tensor:
    """A patch without any weight attends to itself, where the releases have nan."""
    rows = []
    for number, row in enumerate(affinity):
        logits = 3 * (row - affinity.mean())
        weights = torch.where(logits < 0, 0.0, logits.exp())
        if weights.sum() == 0:
            weights[number] = 1
        rows.append(weights / weights.sum())
    return torch.stack(rows)


def slow_attention(backbone: Backbone, patches: Tensor, terms: str, gated: Tensor) -> Tensor:
    """Mean of the gate and of the softmaxes of `terms`, applied in the last block: (N, D) -> (N, D)."""
    block = deepcopy(backbone.model.visual.transformer.resblocks[-1]).double()
    width, heads = patches.shape[1], block.attn.num_heads
    normed = F.layer_norm(patches, (width,), block.ln_1.weight, block.ln_1.bias, block.ln_1.eps)
    joint = normed @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
    parts = {name: joint[:, place * width : (place + 1) * width] for place, name in enumerate("qkv")}
    each = width // heads
    columns = []
    for head in range(heads):
        of_head = {name: part[:, head * each : (head + 1) * each] for name, part in parts.items()}
        maps = [gated]
        for term in terms.split("+") if terms else []:
            maps.append(torch.softmax(of_head[term[0]] @ of_head[term[1]].T / each**0.5, dim=1))
        columns.append(sum(maps) / len(maps) @ of_head["v"])
    return block.attn.out_proj(torch.cat(columns, dim=1))


def slow_release(
    backbone: Backbone,
    layers: list[Tensor],
    grid: Grid,
    mask: Tensor,
    *,
    terms: str,
    second: str,
    cut_gate: bool,
    isolated: str,
) -> Tensor:
    """Both released codes at 12 blocks, from the marks on: tokens (T, D) of layers 0…11 of one image -> (N, E)."""
    layers, marks = [tokens.double() for tokens in layers], mask.tolist()
    patches = slow_purified(layers[11][1:], marks, grid, isolated)
    affinity = slow_cosine(slow_purified(layers[9][1:], marks, grid, isolated))
    cut = torch.where(affinity < 0.4, 0.0, affinity)
    gated = slow_gate(cut if cut_gate else affinity)
    first = slow_attention(backbone, slow_mean(cut, patches), terms, gated) + 0.3 * layers[11][0]
    fused = sum(layers[4:11])
    other = slow_attention(backbone, fused[1:], terms if second == "full" else "", gated) + 0.3 * fused[0]
    late = slow_cosine(layers[4][1:])
    late = torch.where(late < 0.4, 0.0, late)
    total = slow_mean(late, first) + slow_mean(late, other)
    visual = backbone.model.visual
    norm = deepcopy(visual.ln_post).double()
    return F.layer_norm(total, norm.weight.shape, norm.weight, norm.bias, norm.eps) @ visual.proj.double()


SC_CLIP = {"terms": "kk", "second": "full", "cut_gate": False, "isolated": "keep"}
SFP = {"terms": "qq+kk", "second": "similarity", "cut_gate": True, "isolated": "zero"}


@pytest.mark.parametrize(
    ("spec", "settings"),
    [
        ("sc-clip", SC_CLIP),
        ("sc-clip:kernel=qq+kk", SC_CLIP | {"terms": "qq+kk"}),
        ("sfp", SFP),
        ("sfp:detector=norm-topk", SFP),
    ],
)
def test_the_released_steps_equal_a_slow_transcription(tiny, images, spec, settings):
    encoding = encode_many(tiny, images, [spec])[0]
    outs = Recorder("block_out")
    tiny.trunk(images, tap=outs, positions="bicubic-offset")
    for number in range(2):
        mask = encoding.extras["outliers"][number]
        assert mask.any()
        layers = [outs["block_out", layer][number] for layer in range(12)]
        expected = slow_release(tiny, layers, GRID, mask, **settings)
        torch.testing.assert_close(encoding.patches[number].double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("spec", "settings"), [("sc-clip:detector=norm-topk", SC_CLIP), ("sfp:detector=norm-topk(count=25)", SFP)]
)
def test_the_released_steps_equal_a_slow_transcription_on_random_tokens(tiny, images, spec, settings):
    """Of a few kinds, so that similarities lie on all sides of the threshold, of their mean and of 0."""
    generator = torch.Generator().manual_seed(8)
    kinds = torch.randn(4, 48, generator=generator)[torch.randint(0, 4, (12, 2, 41), generator=generator)]
    tokens = kinds + 0.7 * torch.randn(12, 2, 41, 48, generator=generator)
    recording = Recording(12, {("block_out", layer): tokens[layer] for layer in range(12)})
    encoding = METHODS.build(spec).encoder(Activations(tiny, images, tiny.layout(images), recording))
    affinity = encoding.extras["affinity"]
    assert 0 < affinity.mean() < 0.4
    assert affinity.min() < 0
    for number in range(2):
        mask = encoding.extras["outliers"][number]
        assert mask.any()
        expected = slow_release(tiny, list(tokens[:, number]), GRID, mask, **settings)
        torch.testing.assert_close(encoding.patches[number].double(), expected, atol=1e-4, rtol=1e-4)


# Layers


@pytest.mark.parametrize(
    ("depth", "pre", "post", "first", "last"),
    [(12, 9, 4, 4, 10), (24, 17, 7, 9, 20), (32, 22, 9, 12, 27), (6, 5, 3, 2, 5), (4, 3, 2, 1, 3), (3, 2, 2, 1, 2)],
)
def test_layers_lie_on_the_line_through_the_two_published_settings(depth, pre, post, first, last):
    plan = SelfCalibrated().plan(depth)
    assert (plan.pre, plan.post, plan.fused) == (pre, post, tuple(range(first, last + 1)))


@pytest.mark.parametrize("depth", [12, 13, 24, 40])
def test_the_fixed_rule_keeps_the_layers_of_12_blocks(depth):
    assert SelfCalibrated(depth_rule="fixed").plan(depth) == SelfCalibrated().plan(12)


def test_the_fixed_rule_goes_by_the_line_where_there_are_fewer_blocks():
    assert SelfCalibrated(depth_rule="fixed").plan(8) == SelfCalibrated().plan(8)


def test_given_layers_win_and_negative_ones_count_from_the_end():
    plan = SelfCalibrated(pre_layer=-4, post_layer=2, fuse_from=5, fuse_to=9, fuse_step=4).plan(12)
    assert plan == (9, 2, (5, 9))


@pytest.mark.parametrize("depth", [2, 3, 24])
def test_any_depth_from_two_blocks_on_runs(images, depth):
    backbone = load_backbone(f"tiny:depth={depth}")
    for method in ("sc-clip", "sfp"):
        assert torch.isfinite(encode_many(backbone, images, [method])[0].patches).all()


# Identities


def test_with_everything_off_it_is_the_last_block_with_another_kernel_among_patches(tiny, images):
    bare = SelfCalibrated(
        purifier=Keep(), pre=False, post=False, similarity_weight=0, second_branch="none", class_share=0, kernel="qq+kk"
    )
    plain = LastBlock(kernel="qq+kk", combine="mean", residual=False, ffn=False, class_in_keys=False)
    encoding = encoded(tiny, images, bare)
    torch.testing.assert_close(encoding.patches, encoded(tiny, images, plain).patches, atol=1e-5, rtol=1e-5)
    assert "affinity" not in encoding.extras


def test_without_outliers_nothing_is_purified(tiny, images):
    blind = encoded(tiny, images, SelfCalibrated(detector=LocalOutlierFactor(threshold=1e9)))
    kept = encoded(tiny, images, SelfCalibrated(purifier=Keep()))
    assert not blind.extras["outliers"].any()
    assert torch.equal(blind.patches, kept.patches)
    assert not torch.equal(kept.patches, encoded(tiny, images, SelfCalibrated()).patches)


def test_a_model_without_a_class_token_does_without_its_share(images):
    backbone = load_backbone("tiny:class_token=false")
    encoding = encoded(backbone, images, SelfCalibrated())
    assert encoding.class_token is None
    assert torch.equal(encoding.patches, encoded(backbone, images, SelfCalibrated(class_share=0)).patches)


def test_every_patch_gets_its_share_of_both_class_tokens(tiny, images):
    """Without a last norm the share would simply be added; a purely linear projection shows it."""
    settings = {"pre": False, "post": False, "purifier": Keep()}
    backbone = load_backbone("tiny")
    backbone.project = lambda tokens: tokens  # type: ignore[method-assign]
    with_share = encoded(backbone, images, SelfCalibrated(class_share=0.5, **settings)).patches
    without = encoded(backbone, images, SelfCalibrated(class_share=0.0, **settings)).patches
    stock = stock_forward(backbone, images, [METHODS["sc-clip"]], positions="bicubic-offset")
    class_tokens = stock.class_token(11) + sum(stock.class_token(layer) for layer in range(4, 11))
    torch.testing.assert_close(with_share - without, 0.5 * class_tokens[:, None].expand_as(without), atol=1e-4, rtol=0)


def test_the_dual_path_adds_each_block_as_a_decoder(images):
    settings = {"pre": False, "post": False, "purifier": Keep(), "class_share": 0.0, "similarity_weight": 0.0}
    backbone = load_backbone("tiny")
    backbone.project = lambda tokens: tokens  # type: ignore[method-assign]
    dual = SelfCalibrated(second_branch="dual-path", fuse_from=5, fuse_to=9, fuse_step=4, **settings)
    expected = encoded(backbone, images, SelfCalibrated(second_branch="none", **settings)).patches
    with torch.no_grad():
        recorder = Recorder("block_out", layers=[4, 8])
        backbone.trunk(images, tap=recorder, positions="bicubic-offset")
        for layer in (5, 9):
            block = backbone.blocks[layer - 1]
            heads = block.qkv(backbone.layout(images).patches(recorder.recording["block_out", layer - 1]))
            weights = torch.softmax(heads.k @ heads.k.mT / heads.k.shape[-1] ** 0.5, dim=-1)
            expected = expected + block.merge_heads(weights @ heads.v, heads.normed)
    torch.testing.assert_close(encoded(backbone, images, dual).patches, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("where", ["pre", "post", "both"])
def test_the_similarity_of_a_second_backbone_stands_for_that_of_the_layers(images, where):
    switches = {"pre": where != "post", "post": where != "pre"}
    settings = {"purifier": Keep(), "class_share": 0.0, "similarity_weight": 0.0, "second_branch": "none", "beta": 0.2}
    backbone, second = load_backbone("tiny"), load_backbone("tiny:seed=3")
    backbone.project = lambda tokens: tokens  # type: ignore[method-assign]
    similar = encoded(backbone, images, SelfCalibrated(vfm="tiny(seed=3)", **switches, **settings)).patches
    with torch.no_grad():
        layout = backbone.layout(images)
        deep = layout.patches(second.project(second.trunk(images, positions="bicubic-offset"))).double()
        unit = deep / deep.norm(dim=-1, keepdim=True)
        cosines = unit @ unit.mT
        kept = torch.where(cosines < 0.2, 0.0, cosines)
        means = kept / (kept.sum(dim=-1, keepdim=True) + 1e-6)
        recorder = Recorder("block_out", layers=[11])
        backbone.trunk(images, tap=recorder, positions="bicubic-offset")
        patches = layout.patches(recorder.recording["block_out", 11])
        patches = (means @ patches.double()).float() if switches["pre"] else patches
        heads = backbone.blocks[-1].qkv(patches)
        weights = torch.softmax(heads.k @ heads.k.mT / heads.k.shape[-1] ** 0.5, dim=-1)
        expected = backbone.blocks[-1].merge_heads(weights @ heads.v, heads.normed)
        expected = (means @ expected.double()).float() if switches["post"] else expected
    torch.testing.assert_close(similar, expected, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(
        similar, encoded(backbone, images, SelfCalibrated(**switches, **settings)).patches, atol=1e-2
    )


def test_the_direct_second_branch_adds_the_layers_themselves(images):
    settings = {"pre": False, "post": False, "purifier": Keep(), "class_share": 0.0}
    backbone = load_backbone("tiny")
    backbone.project = lambda tokens: tokens  # type: ignore[method-assign]
    direct = encoded(
        backbone, images, SelfCalibrated(second_branch="direct", fuse_from=5, fuse_to=9, fuse_step=4, **settings)
    )
    without = encoded(backbone, images, SelfCalibrated(second_branch="none", **settings))
    stock = stock_forward(backbone, images, [METHODS["sc-clip"]], positions="bicubic-offset")
    expected = without.patches + stock.patches(5) + stock.patches(9)
    torch.testing.assert_close(direct.patches, expected, atol=1e-5, rtol=1e-5)


def test_a_large_weight_of_similarity_drowns_the_kernel(tiny, images):
    settings = {"class_share": 0.0, "second_branch": "none"}
    left, right = (
        encoded(tiny, images, SelfCalibrated(similarity_weight=1e6, kernel=kernel, **settings)).patches
        for kernel in ("kk", "vv")
    )
    torch.testing.assert_close(left, right, atol=1e-4, rtol=1e-4)


def test_mean_and_sum_differ_by_the_number_of_terms_only(tiny, images):
    """Which is a matter of scale, and the last norm takes scale away, where no class token and no bias is added."""
    backbone = load_backbone("tiny")
    torch.nn.init.zeros_(backbone.model.visual.transformer.resblocks[-1].attn.out_proj.bias)
    mean, total = (encoded(backbone, images, SelfCalibrated(terms=terms, class_share=0.0)) for terms in ("mean", "sum"))
    torch.testing.assert_close(mean.patches, total.patches, atol=1e-3, rtol=1e-3)


# Purification


def test_count_purifies_that_many_of_the_highest_scores(tiny, images):
    lof = LocalOutlierFactor(neighbors=12)
    encoding = encoded(tiny, images, SelfCalibrated(detector=lof, count=6))
    stock = stock_forward(tiny, images, [METHODS["sc-clip"]], positions="bicubic-offset")
    scores = lof.score(stock.recording.at(11), stock.layout)
    assert encoding.extras["outliers"].sum(dim=1).tolist() == [6, 6]
    for number in range(2):
        best = set(scores[number].topk(6).indices.tolist())
        assert set(encoding.extras["outliers"][number].nonzero()[:, 0].tolist()) == best


def test_planted_outliers_are_found_and_purified():
    backbone = load_backbone("tiny:outliers=true")
    image = torch.full((1, 3, 224, 224), 0.2)
    image[..., 60:160, 80:200] = 0.9
    stock = stock_forward(backbone, image, [METHODS["sc-clip"]])
    norms = stock.patches(-2).norm(dim=-1)
    planted = norms > 5 * norms.median()
    assert 0 < planted.sum() < 10
    for spec in ("sc-clip", "sfp:detector=norm-topk"):
        assert encode_many(backbone, image, [spec])[0].extras["outliers"][planted].all()


def test_the_places_purified_at_the_last_layer_are_purified_in_the_similarity_too(tiny, images):
    purified = encoded(tiny, images, SelfCalibrated()).extras
    plain = encoded(tiny, images, SelfCalibrated(purify_pre=False)).extras
    assert torch.equal(purified["outliers"], plain["outliers"])
    touched = purified["outliers"][:, :, None] | purified["outliers"][:, None, :]
    changed = (purified["affinity"] - plain["affinity"]).abs() > 1e-5
    assert not changed[~touched].any()
    assert changed.any()


def test_the_layer_that_is_looked_at_can_be_another(tiny, images):
    encoding = encoded(tiny, images, SelfCalibrated(detector=NormTopK(count=4), purify_at_layer=5))
    stock = stock_forward(tiny, images, [METHODS["sc-clip"]], positions="bicubic-offset")
    best = stock.patches(5).norm(dim=-1).topk(4).indices.sort().values
    assert torch.equal(encoding.extras["outliers"].nonzero()[:, 1].view(2, 4), best)


def test_a_image_all_of_whose_patches_are_marked_stays_finite(tiny, images):
    for isolated in ("keep", "zero"):
        encoder = SelfCalibrated(detector=NormTopK(count=40), purifier=NeighborMean(isolated=isolated))
        encoding = encoded(tiny, images, encoder)
        assert encoding.extras["outliers"].all()
        assert torch.isfinite(encoding.patches).all()


def test_a_blank_image_stays_finite(tiny):
    for method in ("sc-clip", "sfp"):
        encoding = encode_many(tiny, torch.zeros(1, 3, 96, 128), [method])[0]
        assert torch.isfinite(encoding.patches).all()


# What comes out


def test_extras_hold_the_mask_and_the_similarity(tiny, images):
    encoding = encoded(tiny, images, SelfCalibrated(detector=LofRelease(neighbors=10, contamination=0.1)))
    assert encoding.layout == Layout(1, GRID)
    assert encoding.extras["outliers"].sum(dim=1).tolist() == [4, 4]
    affinity = encoding.extras["affinity"]
    torch.testing.assert_close(affinity.diagonal(dim1=1, dim2=2), torch.ones(2, 40))
    torch.testing.assert_close(affinity, affinity.mT)


def test_the_class_token_is_that_of_the_last_but_one_layer(tiny, images):
    encoding = encode_many(tiny, images, ["sc-clip"])[0]
    tokens = tiny.trunk(images, stop=-2, positions="bicubic-offset")
    torch.testing.assert_close(encoding.class_token, tiny.project(tokens)[:, 0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", ["sc-clip", "sfp"])
def test_a_batch_equals_its_images_one_by_one(tiny, images, method):
    together = encode_many(tiny, images, [method])[0]
    for number in range(2):
        alone = encode_many(tiny, images[number : number + 1], [method])[0]
        assert torch.equal(together.extras["outliers"][number], alone.extras["outliers"][0])
        torch.testing.assert_close(together.patches[number], alone.patches[0], atol=1e-5, rtol=1e-5)


def test_what_it_reads_is_the_same_afterwards(tiny, images):
    method = METHODS["sfp"]
    stock = stock_forward(tiny, images, [method])
    before = {place: value.clone() for place, value in stock.recording.values.items()}
    method.encoder(stock)
    assert all(torch.equal(value, before[place]) for place, value in stock.recording.values.items())


def test_registers_are_neither_keys_nor_patches(images):
    backbone = load_backbone("tiny:registers=4")
    for method in ("sc-clip", "sfp"):
        assert encode_many(backbone, images, [method])[0].patches.shape == (2, 40, 48)


def test_in_bf16_features_point_the_same_way(tiny, images):
    half = load_backbone("tiny").to(dtype=torch.bfloat16)
    for method in ("sc-clip:purifier=keep", "sfp:purifier=keep"):
        fine, coarse = (encode_many(backbone, images, [method])[0].patches for backbone in (tiny, half))
        assert coarse.dtype == torch.bfloat16
        assert F.cosine_similarity(fine, coarse.float(), dim=-1).min() > 0.99


# Refusals


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sc-clip:pre_layer=15", "`pre_layer=15` is no layer of 12 blocks"),
        ("sc-clip:fuse_from=9,fuse_to=4", "`fuse_from` is layer 9 and `fuse_to` layer 4"),
        ("sc-clip:purify_at_layer=0", "`purify_at_layer=0`"),
        ("sc-clip:beta=1", "`beta` should be a cosine"),
        ("sc-clip:similarity_weight=-1", "`similarity_weight` should be at least 0"),
        ("sc-clip:gate_scale=-1", "`gate_scale` should be at least 0"),
        ("sc-clip:fuse_step=0", "`fuse_step` should be at least 1"),
        ("sc-clip:count=0", "`count` should be at least 1"),
        ("sc-clip:kernel=kq", "no attention kernel `kq`"),
        ("sc-clip:second_branch=half", "should be one of full, similarity, direct, dual-path, none"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(tiny, images, spec, message):
    with pytest.raises(ValueError, match=message):
        encode_many(tiny, images, [spec])


def test_unknown_words_are_refused_where_no_spec_is_read():
    with pytest.raises(ValueError, match="there is no second_branch `half`"):
        SelfCalibrated(second_branch="half")


@pytest.mark.parametrize(
    ("backbone", "method", "message"),
    [
        ("tiny:depth=1", "sc-clip", "a single block"),
        ("tiny:class_token=false", "sfp", "no class token"),
        ("tiny", "sc-clip", "16 patches can't have 30 neighbors"),
    ],
)
def test_models_and_sizes_that_it_cannot_run_on_are_refused(backbone, method, message):
    with pytest.raises(ValueError, match=message):
        encode_many(load_backbone(backbone), torch.zeros(1, 3, 64, 64), [method])
