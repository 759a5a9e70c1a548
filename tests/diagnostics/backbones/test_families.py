"""Families beyond the plain ViT: relative bias, branches side by side, two softmaxes, norms behind, stems, NaFlex."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from timm import layers
from timm.layers import HybridEmbed
from timm.models import beit, naflexvit, vision_transformer, vision_transformer_hybrid, vitamin
from timm.models import vision_transformer_relpos as relpos
from torch import Tensor, nn

from diagnostics import chain
from diagnostics.backbones import load_backbone
from diagnostics.backbones.base import attend, recorded_attention
from diagnostics.backbones.timm import timm_backbone
from diagnostics.backbones.tiny import randomize
from diagnostics.layout import Grid, Layout
from diagnostics.measures.attention import attention_statistics, class_row
from diagnostics.tap_places import ATTENTION_PARTS, SOMETIMES
from diagnostics.taps import TAPS, Recorder

SHAPE = {"patch_size": 16, "embed_dim": 48, "depth": 2, "num_heads": 2, "num_classes": 7}
SMALL = {"img_size": 64, **SHAPE}
ViT, RelPos = vision_transformer.VisionTransformer, relpos.VisionTransformerRelPos
STEM = vision_transformer_hybrid.ConvStem
FLEX = {"pos_embed_grid_size": (4, 4), "global_pool": "map"}


def flexible(**settings) -> nn.Module:
    shape = {name: value for name, value in SHAPE.items() if name != "num_classes"}
    return naflexvit.NaFlexVit(naflexvit.NaFlexVitCfg(**{**shape, **FLEX, **settings}), num_classes=7)


def with_scalars() -> nn.Module:
    """Differential attention whose λ comes of two numbers."""
    model = ViT(**SMALL)
    for depth, block in enumerate(model.blocks):
        block.attn = layers.DiffAttention(48, num_heads=2, qkv_bias=True, depth=depth, dual_lambda=True)
    return model


def with_stem(**settings) -> nn.Module:
    stem = STEM(channels=(12, 48), stride=(2, 8), kernel_size=(3, 8), padding=(1, 0), depth=2)
    embed = partial(HybridEmbed, backbone=stem, proj=False)
    return ViT(**{**SMALL, "patch_size": 1, "embed_layer": embed, **settings})


def vitamin_like() -> nn.Module:
    """ViTamin's last stage behind its two of convolutions."""
    stages = vitamin.MbConvStages(vitamin.VitCfg(embed_dim=(8, 12, 48), depths=(1, 1, 1), stem_width=8))
    embed = partial(HybridEmbed, backbone=stages, proj=False)
    settings = {"patch_size": 1, "embed_layer": embed, "mlp_layer": vitamin.GeGluMlp, "mlp_ratio": 2.0}
    return ViT(**{**SMALL, **settings, "class_token": False, "global_pool": "avg"})


def projected_stem() -> nn.Module:
    """A stem of stride 4 under patches of 4 x 4 of its places, as in the hybrids of ResNet stems."""
    stem = STEM(channels=(6, 12), stride=(2, 2), kernel_size=3, depth=2)
    return ViT(**{**SMALL, "patch_size": 4, "embed_layer": partial(HybridEmbed, backbone=stem)})


KINDS = {
    "beit": partial(beit.Beit, **SMALL, use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.5),
    "beit-shared": partial(beit.Beit, **SMALL, use_rel_pos_bias=True, use_shared_rel_pos_bias=True, init_values=None),
    "beit-gated": partial(beit.Beit, **SMALL, use_rel_pos_bias=True, swiglu_mlp=True, scale_mlp=True),
    "relative-table": partial(RelPos, **SMALL, rel_pos_type="bias", init_values=0.5),
    "relative-table-class": partial(RelPos, **SMALL, rel_pos_type="bias", class_token=True, global_pool="token"),
    "relative-network": partial(RelPos, **SMALL, rel_pos_type="mlp", rel_pos_dim=16, class_token=True),
    "relative-network-swin": partial(RelPos, **SMALL, rel_pos_type="mlp-swin", rel_pos_dim=16),
    "relative-shared": partial(RelPos, **SMALL, rel_pos_type="mlp", rel_pos_dim=16, shared_rel_pos=True),
    "relative-post-norm": partial(RelPos, **SMALL, rel_pos_type="bias", block_fn=relpos.ResPostRelPosBlock),
    "post-norm": partial(ViT, **SMALL, block_fn=vision_transformer.ResPostBlock, init_values=0.5),
    "parallel": partial(ViT, **SMALL, block_fn=vision_transformer.ParallelScalingBlock, init_values=0.5),
    "parallel-without-bias": partial(
        ViT, **SMALL, block_fn=vision_transformer.ParallelScalingBlock, qkv_bias=False, qk_norm=True, proj_bias=False
    ),
    "parallel-joint": partial(
        ViT, **SMALL, block_fn=partial(vision_transformer.ParallelScalingBlock, fuse_out_proj=True)
    ),
    "many-branches": partial(ViT, **SMALL, block_fn=vision_transformer.ParallelThingsBlock, init_values=0.5),
    "differential": partial(ViT, **SMALL, attn_layer="diff", init_values=0.5, qk_norm=True),
    "differential-scalars": with_scalars,
    "differential-parallel": partial(ViT, **SMALL, block_fn=vision_transformer.DiffParallelScalingBlock),
    "stem": with_stem,
    "stem-projected": projected_stem,
    "vitamin": vitamin_like,
    "naflex": partial(flexible),
    "naflex-mean-and-registers": partial(flexible, global_pool="avg", reg_tokens=3, fc_norm=True),
    "naflex-aspect": partial(flexible, pos_embed_ar_preserving=True, class_token=True, global_pool="token"),
    "naflex-factorized": partial(flexible, pos_embed="factorized", pos_embed_ar_preserving=True),
    "naflex-factorized-stretched": partial(flexible, pos_embed="factorized"),
    "naflex-radio": partial(
        flexible,
        pos_embed_grid_size=(9, 9),
        pos_embed_interp_mode="bilinear",
        pos_embed_ar_preserving=True,
        pos_embed_antialias=False,
        pos_embed_align_corners=True,
        class_token=True,
        reg_tokens=2,
        global_pool="token",
        final_norm=False,
    ),
    "naflex-channels-first": partial(flexible, patchify_channels_last=False),
    "naflex-convolution": partial(flexible, embed_proj_type="conv", pre_norm=True),
    "naflex-rotary": partial(flexible, rope_type="axial", pos_embed="none", class_token=True),
}
BIASED = [kind for kind in KINDS if kind.startswith(("beit", "relative"))]
DIFFERENTIAL = [kind for kind in KINDS if kind.startswith("differential")]
SIZES = {"native": (64, 64), "larger": (96, 96), "oblong": (48, 112)}
HALF = (0.5, 0.5, 0.5)


def build(kind: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        model = KINDS[kind]()
    randomize(model, 3)
    return model.eval()


def backbone_of(model: nn.Module):
    return timm_backbone(model, "timm:small", mean=HALF, std=HALF)


def photos(height: int = 64, width: int = 64, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


def resized(model: nn.Module, size: tuple[int, int]) -> nn.Module:
    """timm's own way to another size; NaFlex takes every size."""
    stock = copy.deepcopy(model)
    if hasattr(stock, "set_input_size"):
        stock.set_input_size(size)
    return stock


def apart(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.filterwarnings("ignore::UserWarning")  # of timm's own interpolation
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_output_is_the_stock_models(kind, size):
    model = build(kind)
    with torch.no_grad():
        assert apart(backbone_of(model)(photos(*size)), resized(model, size)(photos(*size))) <= 2e-6


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_the_attention_changes_nothing(kind):
    backbone, images = backbone_of(build(kind)), photos(48, 80)
    assert apart(backbone.trunk(images, tap=Recorder("attention")), backbone.trunk(images)) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_every_place_passes_except_those_that_a_family_lacks(kind):
    backbone, recorder = backbone_of(build(kind)), Recorder(*TAPS)
    backbone.trunk(photos(48, 80), tap=recorder)
    lacking = {name for name in TAPS if not recorder.recording.layers(name)}
    expected = {"attention_bias"} - ({"attention_bias"} if kind in BIASED else set())
    if kind in DIFFERENTIAL:
        expected = set(SOMETIMES)
    assert lacking == expected
    assert recorder["attention", 2].shape[1] == backbone.heads


@pytest.mark.parametrize("kind", KINDS)
def test_branches_add_up_to_the_block(kind):
    backbone, recorder = backbone_of(build(kind)), Recorder("block_in", "attn_out", "block_sum", "ffn_out", "block_out")
    backbone.trunk(photos(48, 80), tap=recorder)
    parts = {name: recorder[name, 2] for name in recorder.names}
    assert torch.equal(parts["block_in"] + parts["attn_out"], parts["block_sum"])
    assert torch.equal(parts["block_sum"] + parts["ffn_out"], parts["block_out"])
    block = backbone.blocks_on(backbone.layout(photos(48, 80)))[1]
    torch.testing.assert_close(block.ffn(parts["block_sum"], parts["block_in"]), parts["ffn_out"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_equals_its_images_one_by_one(kind):
    backbone, images = backbone_of(build(kind)), photos(48, 80, count=3)
    assert apart(backbone(images), torch.cat([backbone(image[None]) for image in images])) <= 1e-5


# Relative bias


def looked_up(model: nn.Module, layer: int, head: int, query: int, key: int, grid: Grid) -> float:
    """BEiT's bias of one pair of tokens, by rows and columns between them; token 0 is the class token."""
    attn = model.blocks[layer].attn
    table, count = attn.relative_position_bias_table, (2 * grid.rows - 1) * (2 * grid.cols - 1)
    if query and key:
        (row, col), (other_row, other_col) = divmod(query - 1, grid.cols), divmod(key - 1, grid.cols)
        place = (row - other_row + grid.rows - 1) * (2 * grid.cols - 1) + col - other_col + grid.cols - 1
    else:
        place = count + (2 if query == key else 0 if not query else 1)
    return float(table[place, head])


def test_the_bias_of_beit_is_that_of_the_displacement():
    model, recorder = build("beit"), Recorder("attention_bias")
    backbone_of(model).trunk(photos(), tap=recorder)
    bias = recorder["attention_bias", 2]
    assert bias.shape == (1, 2, 17, 17)
    for query, key in [(1, 1), (3, 10), (16, 1), (0, 0), (0, 5), (5, 0)]:
        assert float(bias[0, 1, query, key]) == looked_up(model, 1, 1, query, key, Grid(4, 4))


@pytest.mark.parametrize("kind", BIASED)
def test_attention_made_again_from_its_parts_has_the_bias(kind):
    backbone, recorder, images = backbone_of(build(kind)), Recorder("attention", *ATTENTION_PARTS), photos(48, 80)
    backbone.trunk(images, tap=recorder)
    made, layout = recorder["attention", 2], backbone.layout(images)
    torch.testing.assert_close(recorded_attention(recorder.recording, 2), made)
    q, k, bias = (recorder[name, 2] for name in ATTENTION_PARTS)
    received = attention_statistics(q, k, layout, {"received", "self"}, bias=bias)
    torch.testing.assert_close(received["received"], made[:, :, layout.prefix :].mean(dim=2))
    torch.testing.assert_close(received["self"], layout.patches(made.diagonal(dim1=2, dim2=3), dim=2))
    if layout.has_class_token:
        torch.testing.assert_close(class_row(q, k, layout, bias), layout.patches(made[:, :, 0], dim=2))


def test_patches_alone_have_the_bias_among_patches_and_an_added_token_has_none():
    backbone, images = backbone_of(build("beit")), photos(48, 80)
    layout = backbone.layout(images)
    place = backbone.positional(layout)[1]
    whole = place.bias_for(16)
    assert torch.equal(place.bias_for(15), whole[..., 1:, 1:])
    more = place.bias_for(17)
    kept = [token for token in range(17) if token != 1]
    assert torch.equal(more[..., kept, :][..., kept], whole)
    assert not more[..., 1, :].any()
    assert not more[..., 1].any()


def test_a_bias_can_be_changed_on_its_way():
    backbone, images = backbone_of(build("beit")), photos(48, 80)
    flat = backbone.trunk(images, tap=lambda name, layer, value: value * 0 if name == "attention_bias" else value)
    without = build("beit")
    for block in without.blocks:
        block.attn.relative_position_bias_table.data.zero_()
    assert apart(flat, backbone_of(without).trunk(images)) <= 1e-5
    assert apart(flat, backbone.trunk(images)) > 1e-3


def test_tables_of_a_few_grids_only_are_kept():
    backbone = backbone_of(build("beit"))
    for width in (48, 64, 80, 96, 112, 128, 144):
        backbone.trunk(photos(32, width))
    assert len(backbone.tower.biases._kept) == 4


# Attention of two softmaxes


@pytest.mark.parametrize("kind", DIFFERENTIAL)
def test_rows_of_a_difference_add_up_to_less_than_one(kind):
    backbone, recorder = backbone_of(build(kind)), Recorder("attention", "value", "attn_out")
    backbone.trunk(photos(48, 80), tap=recorder)
    attention = recorder["attention", 1]
    rows = attention.sum(dim=-1)
    assert rows.max() - rows.min() < 1e-5  # 1 - λ of the block
    assert abs(float(rows.mean()) - 1) > 0.05
    assert (attention < 0).any()


@pytest.mark.parametrize("kind", DIFFERENTIAL)
def test_what_reads_queries_and_keys_is_refused_with_the_reason(kind):
    backbone = backbone_of(build(kind))
    assert "difference of two softmaxes" in backbone.lacking(("block_out", "query"))
    assert backbone.lacking(("block_out", "value", "attention")) is None
    with pytest.raises(ValueError, match="difference of two softmaxes"):
        backbone.blocks[0].qkv(torch.zeros(1, 17, 48))


# Branches side by side


def test_the_second_branch_of_a_parallel_block_reads_the_blocks_input():
    backbone, images = backbone_of(build("parallel")), photos(48, 80)
    recorder, double = Recorder("ffn_out"), Recorder("ffn_out")

    def doubled(name: str, layer: int, value: Tensor) -> Tensor:
        return 2 * value if name == "attn_out" and layer == 1 else value

    backbone.trunk(images, tap=recorder)
    backbone.trunk(images, tap=chain(doubled, double))
    assert torch.equal(recorder["ffn_out", 1], double["ffn_out", 1])
    assert not torch.equal(recorder["ffn_out", 2], double["ffn_out", 2])
    with pytest.raises(ValueError, match=r"block\.ffn\(x, block_in\)"):
        backbone.blocks[0].ffn(torch.zeros(1, 16, 48))


def test_heads_of_several_attentions_count_as_heads_of_one():
    model, images = build("many-branches"), photos(48, 80)
    backbone, recorder = backbone_of(model), Recorder("block_in", "attention", "value", "normed")
    backbone.trunk(images, tap=recorder)
    assert (backbone.heads, recorder["normed", 1].shape[-1]) == (4, 96)
    second = model.blocks[0].attns[1]
    q, k, v = second.attn.qkv(second.norm(recorder["block_in", 1])).chunk(3, dim=-1)
    head = attend(*(part[..., 24:].unsqueeze(1) for part in (q, k, v)))
    torch.testing.assert_close(recorder["attention", 1][:, 3:] @ recorder["value", 1][:, 3:], head)


# Stems


def test_one_token_stands_for_the_stride_of_the_whole_stem():
    for kind in ("stem", "stem-projected", "vitamin"):
        backbone = backbone_of(build(kind))
        assert (backbone.patch_size, backbone.native_size, backbone.native_grid) == ((16, 16), (64, 64), Grid(4, 4))


def test_a_stem_whose_grid_is_not_that_of_its_stride_is_not_guessed():
    stem = STEM(channels=(48,), stride=(16,), kernel_size=19, padding=2, depth=1)
    model = ViT(**{**SMALL, "patch_size": 1, "embed_layer": partial(HybridEmbed, backbone=stem, proj=False)}).eval()
    backbone = backbone_of(model)
    assert backbone.native_size == (64, 64)
    backbone.trunk(photos(64, 96))
    stem[0].conv.padding = (24, 2)
    with pytest.raises(ValueError, match="the stem should give 4x6 tokens for 64x96 pixels; it gave 6x6"):
        backbone.trunk(photos(64, 96))


# NaFlex


@pytest.mark.parametrize("kind", ["naflex", "naflex-aspect", "naflex-factorized", "naflex-radio"])
def test_an_image_gives_what_its_packed_patches_give(kind):
    model, images = build(kind), photos(48, 112)
    patches, (rows, cols) = naflexvit.batch_patchify(images, (16, 16))
    places = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij"), dim=-1).flatten(0, 1)
    places = places.expand(len(images), -1, -1)
    with torch.no_grad():
        packed = model({"patches": patches, "patch_coord": places, "patch_valid": torch.ones(2, rows * cols) > 0})
        assert apart(backbone_of(model)(images), packed) <= 1e-6


def test_native_is_what_the_weights_were_published_for():
    model = build("naflex")
    assert backbone_of(model).native_size == (64, 64)
    model.pretrained_cfg = {"input_size": (3, 96, 80)}
    backbone = backbone_of(model)
    assert (backbone.native_size, backbone.table_grid) == ((96, 80), Grid(4, 4))
    with torch.no_grad():
        assert apart(backbone(photos(96, 80)), model(photos(96, 80))) <= 1e-6


def test_an_unknown_way_to_stretch_positions_is_refused():
    model = build("naflex")
    model.embeds.pos_embed_interp_mode = "area"
    with pytest.raises(ValueError, match="stretches positions in a way that is not known here"):
        backbone_of(model)


# In miniature


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "kind",
    ["rotary", "rotary-mixed", "post-norm", "relative-bias", "parallel", "differential", "conv-stem", "naflex"],
)
def test_tiny_has_each_family_the_same_every_time(kind):
    spec, images = f"tiny:kind={kind},depth=2", photos(64, 64)
    backbone = load_backbone(spec)
    with torch.no_grad():
        assert apart(backbone(images), backbone.model(images)) <= 2e-6
    assert torch.equal(load_backbone(spec)(images), backbone(images))
    bare = load_backbone(f"{spec},class_token=false")
    assert (bare.prefix, bare.class_index) == (0, None)
    assert bare.layout((40, 100)) == Layout(0, Grid(3, 7), None)


def test_tiny_refuses_what_a_family_lacks():
    with pytest.raises(ValueError, match="`kind=relative-bias` has no registers"):
        load_backbone("tiny:kind=relative-bias,registers=2")
    with pytest.raises(ValueError, match=r"`kind` of backbone `tiny` should be one of plain, rotary, .*got `rotari`"):
        load_backbone("tiny:kind=rotari")
    with pytest.raises(ValueError, match="should be even; got 9"):
        load_backbone("tiny:kind=conv-stem,patch=9,size=36")
