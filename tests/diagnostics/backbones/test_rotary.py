"""Rotary positions: stock outputs at any size, the rotation by hand, and grids that differ from call to call."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from timm.models.eva import Eva
from torch import Tensor, nn

from diagnostics.backbones import load_backbone
from diagnostics.backbones.base import attention_weights
from diagnostics.backbones.timm import timm_backbone
from diagnostics.backbones.tiny import randomize
from diagnostics.layout import Grid, Layout
from diagnostics.taps import Recorder, chain

SMALL = {
    "img_size": 64,
    "patch_size": 16,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 7,
    "use_rot_pos_emb": True,
}
# Every kind of the class: what sets it apart.
KINDS: dict[str, dict] = {
    "eva01": {"use_rot_pos_emb": False},
    "eva02": {
        "swiglu_mlp": True,
        "scale_mlp": True,
        "qkv_fused": False,
        "ref_feat_shape": (3, 3),
        "global_pool": "avg",
    },
    "eva02-packed": {"swiglu_mlp": True, "scale_attn_inner": True},
    "eva02-enormous": {"use_post_norm": True, "use_rot_pos_emb": False},
    "post-norm": {"use_post_norm": True, "swiglu_mlp": True, "scale_mlp": True},
    "dinov3": {
        "num_reg_tokens": 4,
        "no_embed_class": True,
        "use_abs_pos_emb": False,
        "rope_type": "dinov3",
        "rope_rotate_half": True,
        "rope_temperature": 100.0,
        "init_values": 0.5,
        "dynamic_img_size": True,
    },
    "dinov3-fixed-size": {"num_reg_tokens": 2, "no_embed_class": True, "rope_type": "dinov3"},
    "perception-encoder": {
        "use_pre_transformer_norm": True,
        "use_fc_norm": False,
        "global_pool": "map",
        "attn_pool_num_heads": 3,
        "attn_pool_mlp_ratio": 4,
        "rope_grid_offset": 1.0,
        "rope_grid_indexing": "xy",
        "dynamic_img_size": True,
    },
    "perception-encoder-spatial": {"class_token": False, "global_pool": "avg", "use_pre_transformer_norm": True},
    "axial": {"attn_type": "rope", "qkv_bias": True, "rope_grid_indexing": "xy", "rope_temperature": 100.0},
    "mixed": {"attn_type": "rope", "rope_type": "mixed", "rope_grid_indexing": "xy"},
    "registers-and-mean": {"num_reg_tokens": 1, "class_token": False, "global_pool": "avg", "no_embed_class": True},
    "shared-keys": {"attn_type": "rope", "qkv_fused": False, "num_kv_heads": 1, "qk_norm": True, "init_values": 0.5},
    "sections": {"rope_type": "mrope", "rope_mrope_section": (4, 4, 4)},
}
HALF = (0.5, 0.5, 0.5)


def build(kind: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        model = Eva(**{**SMALL, **KINDS[kind]})
    randomize(model, 3)
    return model.eval()


def backbone_of(model: nn.Module):
    return timm_backbone(model, "timm:small", mean=HALF, std=HALF)


def photos(height: int = 64, width: int = 64, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


def apart(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (48, 112)], ids=["native", "larger", "oblong"])
@pytest.mark.parametrize("kind", KINDS)
def test_output_is_the_stock_models(kind, size):
    model = build(kind)
    stock = copy.deepcopy(model)
    stock.set_input_size(size)
    with torch.no_grad():
        theirs = stock(photos(*size))
        assert apart(backbone_of(model)(photos(*size)), theirs) <= 1e-6
        if KINDS[kind].get("dynamic_img_size"):
            assert apart(model(photos(*size)), theirs) <= 1e-6


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].get("use_rot_pos_emb", True)])
def test_without_the_rotation_the_output_is_another(kind):
    model = build(kind)
    flat = copy.deepcopy(model)
    flat.rope = None
    with torch.no_grad():
        assert apart(backbone_of(flat)(photos()), model(photos())) > 0.005


@pytest.mark.parametrize("kind", ["dinov3-fixed-size", "axial", "mixed"])
def test_grids_may_differ_from_call_to_call_and_nothing_of_them_stays(kind):
    model = build(kind)
    backbone = backbone_of(model)
    before = copy.deepcopy(dict(model.named_buffers()))
    first = backbone(photos(48, 112))
    backbone(photos(96, 32))
    assert torch.equal(backbone(photos(48, 112)), first)
    assert all(torch.equal(before[name], value) for name, value in model.named_buffers())
    assert all(block.positional is None for block in backbone.blocks)


@pytest.mark.parametrize("kind", ["dinov3", "mixed", "axial", "shared-keys"])
def test_made_attention_gives_what_fused_attention_gives(kind):
    backbone, recorder = backbone_of(build(kind)), Recorder("attention", "query", "key")
    images = photos(48, 80)
    assert apart(backbone.trunk(images, tap=recorder), backbone.trunk(images)) <= 1e-5
    again = attention_weights(recorder["query", 2], recorder["key", 2])
    assert torch.equal(recorder["attention", 2], again)


def turned(vector: list[float], angles: list[float], *, half: bool) -> list[float]:
    """Pairs of channels turned by an angle each, one by one."""
    out, pairs = list(vector), len(vector) // 2
    for pair, angle in enumerate(angles):
        left, right = (pair, pair + pairs) if half else (2 * pair, 2 * pair + 1)
        x, y = vector[left], vector[right]
        out[left], out[right] = x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)
    return out


def test_queries_and_keys_are_turned_by_hand_written_angles():
    # DINOv3: 24 channels of a head are 12 pairs, 6 by the row and 6 by the column, periods 100^(j/6); coordinates are
    # centers of patches from -1 to 1.
    backbone, recorder = backbone_of(build("dinov3")), Recorder("query", "key", "query_unrotated", "key_unrotated")
    backbone.trunk(photos(48, 80), tap=recorder)
    for row, col in [(0, 0), (2, 1), (1, 4)]:
        places = (2 * (row + 0.5) / 3 - 1, 2 * (col + 0.5) / 5 - 1)
        angles = [2 * math.pi * place / 100 ** (j / 6) for place in places for j in range(6)]
        token = 5 + 5 * row + col
        for name in ("query", "key"):
            plain = recorder[f"{name}_unrotated", 1][0, 1, token].tolist()
            ours = recorder[name, 1][0, 1, token]
            assert torch.allclose(ours, torch.tensor(turned(plain, angles, half=True)), atol=1e-5)


def test_mixed_frequencies_are_those_of_block_and_head():
    model = build("mixed")
    recorder = Recorder("query", "query_unrotated")
    backbone_of(model).trunk(photos(48, 80), tap=recorder)
    for layer, head, row, col in [(1, 0, 2, 3), (2, 1, 1, 4)]:
        across, down = model.rope.freqs[:, layer - 1, head].tolist()
        angles = [col * x + row * y for x, y in zip(across, down, strict=True)]
        token = 1 + 5 * row + col
        plain = recorder["query_unrotated", layer][1, head, token].tolist()
        by_hand = torch.tensor(turned(plain, angles, half=False))
        assert torch.allclose(recorder["query", layer][1, head, token], by_hand, atol=1e-5)


@pytest.mark.parametrize("kind,prefix", [("dinov3", 5), ("registers-and-mean", 1), ("axial", 1)])
def test_class_token_and_registers_are_not_turned(kind, prefix):
    backbone, recorder = backbone_of(build(kind)), Recorder("query", "query_unrotated")
    backbone.trunk(photos(48, 80), tap=recorder)
    turned_, plain = recorder["query", 2], recorder["query_unrotated", 2]
    assert torch.equal(turned_[:, :, :prefix], plain[:, :, :prefix])
    same = (turned_ == plain).all(dim=-1)[:, :, prefix:]
    # Where coordinates begin at 0, one patch has no angle.
    assert same.sum() <= same.shape[0] * same.shape[1]


def test_a_model_without_rotation_shows_the_same_before_and_after():
    recorder = Recorder("query", "key", "query_unrotated", "key_unrotated")
    load_backbone("tiny:depth=2").trunk(photos(), tap=recorder)
    for name in ("query", "key"):
        assert torch.equal(recorder[name, 2], recorder[f"{name}_unrotated", 2])


# Blocks taken by themselves


@pytest.mark.parametrize("kind", ["dinov3", "mixed"])
def test_a_block_on_a_grid_recombined_is_the_block(kind):
    backbone, recorder, images = backbone_of(build(kind)), Recorder("block_in", "block_out"), photos(48, 80)
    backbone.trunk(images, tap=recorder)
    block, tokens = backbone.blocks_on(backbone.layout(images))[1], recorder["block_in", 2]
    heads = block.qkv(tokens)
    tokens = tokens + block.mix(attention_weights(heads.q, heads.k, heads.bias), heads)
    assert apart(tokens + block.ffn(tokens), recorder["block_out", 2]) <= 1e-5


def test_patches_alone_are_turned_as_they_are_among_all_tokens():
    backbone, images = backbone_of(build("dinov3")), photos(48, 80)
    layout, tokens = backbone.layout(images), backbone.trunk(images, stop=1)
    block = backbone.blocks_on(layout)[1]
    for alone, among in zip(block.qkv(layout.patches(tokens))[:3], block.qkv(tokens)[:3], strict=True):
        torch.testing.assert_close(alone, among[:, :, layout.prefix :])


def test_a_block_off_its_grid_says_where_to_take_it_from():
    backbone, images = backbone_of(build("dinov3")), photos(48, 80)
    tokens = backbone.trunk(images, stop=1)
    with pytest.raises(ValueError, match=r"backbone\.blocks_on\(backbone\.layout\(images\)\)"):
        backbone.blocks[1].qkv(tokens)
    with pytest.raises(ValueError, match=r"layout=backbone\.layout\(images\)"):
        backbone.run(tokens, start=2)
    layout = backbone.layout(images)
    assert torch.equal(backbone.run(tokens, start=2, layout=layout), backbone.trunk(images))


@pytest.mark.parametrize("grid", [Grid(4, 4), Grid(1, 3), Grid(3, 6)])
def test_tokens_of_another_grid_are_refused(grid):
    backbone, images = backbone_of(build("dinov3")), photos(48, 80)
    tokens = backbone.trunk(images, stop=1)
    wrong = Layout(backbone.prefix, grid, backbone.class_index)
    with pytest.raises(ValueError, match=rf"tokens should be those of a {grid.rows}x{grid.cols} grid.*got 20"):
        backbone.run(tokens[:, : 5 + 15], start=2, layout=wrong)


def test_a_register_that_an_edit_adds_is_not_turned_and_shifts_no_patch():
    backbone, images = backbone_of(build("dinov3")), photos(48, 80)
    recorder = Recorder("query", "query_unrotated")
    backbone.trunk(images, tap=chain(with_register, recorder))
    turned_, plain = recorder["query", 1], recorder["query_unrotated", 1]
    assert plain.shape[2] == 6 + 15
    assert torch.equal(turned_[:, :, :6], plain[:, :, :6])
    stock = Recorder("query")
    backbone.trunk(images, tap=stock)
    torch.testing.assert_close(turned_[:, :, 6:], stock["query", 1][:, :, 5:])


def with_register(name: str, layer: int, value: Tensor) -> Tensor:
    """A token of zeros behind the prefix, as test-time registers put it there."""
    if (name, layer) != ("block_out", 0):
        return value
    return torch.cat([value[:, :5], value.new_zeros(len(value), 1, value.shape[-1]), value[:, 5:]], dim=1)


def test_prefix_tokens_that_the_model_itself_would_turn_are_refused():
    model = build("dinov3")
    model.blocks[1].attn.num_prefix_tokens = 1
    with pytest.raises(ValueError, match="5 prefix tokens unrotated; a block leaves 1"):
        backbone_of(model)


def test_rotary_positions_of_an_unknown_kind_are_refused():
    model = build("axial")
    model.rope = nn.Identity()
    with pytest.raises(ValueError, match="rotary positions is `Identity`"):
        backbone_of(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_is_near_full(dtype):
    backbone = backbone_of(build("dinov3"))
    full = backbone(photos(48, 80))
    low = backbone.to(dtype=dtype)(photos(48, 80)).float()
    assert apart(low, full) <= (1e-6 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("kind", ["rotary", "rotary-mixed", "post-norm"])
def test_tiny_has_each_family(kind):
    backbone = load_backbone(f"tiny:kind={kind},registers=2,depth=2")
    assert (backbone.prefix, backbone.class_index, backbone.blocks[0].needs_grid) == (3, 0, True)
    with torch.no_grad():
        assert apart(backbone(photos()), backbone.model(photos())) <= 1e-6
    assert torch.equal(backbone(photos()), load_backbone(f"tiny:kind={kind},registers=2,depth=2")(photos()))
