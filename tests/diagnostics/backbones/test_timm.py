"""The timm adapter against timm itself: every kind of transformer that it takes, at three image sizes."""

from __future__ import annotations

import copy
import re
from functools import partial

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm import layers
from timm.models import deit, vision_transformer
from torch import Tensor, nn

from diagnostics.backbones.timm import load_timm, timm_backbone
from diagnostics.backbones.timm_tower import TimmTower
from diagnostics.registry import UnknownName
from diagnostics.taps import TAPS, Recorder

# The places that models without a relative bias pass.
ALWAYS = {name: place for name, place in TAPS.items() if name != "attention_bias"}

SIZE = 64
WIDTH = 48
HEADS = 3
DEPTH = 3
CLASSES = 7
NORMALIZE = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
TOLERANCE = 1e-5

SMALL = {
    "img_size": SIZE,
    "patch_size": 16,
    "embed_dim": WIDTH,
    "depth": DEPTH,
    "num_heads": HEADS,
    "num_classes": CLASSES,
}
RMS = partial(layers.RmsNorm, eps=1e-5)
REGISTERS = {"reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5}

# Every kind that the adapter says it runs: what sets it apart from plain augreg. `attention` holds settings of timm's
# attention that its transformer does not pass on.
KINDS: dict[str, dict] = {
    "augreg": {},
    "dino": {"num_classes": 0},
    "deit3": {"no_embed_class": True, "init_values": 1e-6},
    "dinov2": {"num_classes": 0, "init_values": 1e-5},
    "dinov2-registers": {"num_classes": 0, **REGISTERS},
    "dinov2-giant": {
        "num_classes": 0,
        "init_values": 1e-5,
        "mlp_layer": layers.SwiGLUPacked,
        "act_layer": nn.SiLU,
        "mlp_ratio": 16 / 3,
    },
    "glu-gate-last": {"mlp_layer": layers.GluMlp, "act_layer": nn.Sigmoid},
    "registers-without-class-token": {"class_token": False, "global_pool": "avg", **REGISTERS},
    "registers-with-positions": {"reg_tokens": 2, "global_pool": "avg"},
    "clip": {"pre_norm": True, "norm_layer": nn.LayerNorm},
    "clip-quickgelu": {"pre_norm": True, "norm_layer": nn.LayerNorm, "act_layer": "quick_gelu"},
    "siglip": {"class_token": False, "global_pool": "map", "num_classes": 0, "act_layer": "gelu_tanh"},
    "map-with-registers": {"class_token": False, "reg_tokens": 2, "global_pool": "map"},
    "map-over-prefix": {"reg_tokens": 1, "global_pool": "map", "pool_include_prefix": True},
    "prr": {"global_pool": "prr"},
    "prr-without-class-token": {"class_token": False, "global_pool": "prr"},
    "mean": {"global_pool": "avg"},
    "mean-norm-before": {"global_pool": "avg", "fc_norm": False, "class_token": False},
    "mean-over-prefix": {"global_pool": "avg", "reg_tokens": 1, "pool_include_prefix": True},
    "mean-and-maximum": {"global_pool": "avgmax"},
    "maximum": {"global_pool": "max"},
    "token-with-norm-after": {"fc_norm": True},
    "aimv2": {
        "class_token": False,
        "global_pool": "avg",
        "fc_norm": False,
        "qkv_bias": False,
        "proj_bias": False,
        "norm_layer": RMS,
        "embed_norm_layer": RMS,
        "mlp_layer": layers.SwiGLU,
        "act_layer": "silu",
    },
    "beit3": {"scale_attn_norm": True, "scale_mlp_norm": True, "global_pool": "avg"},
    "query-key-norm": {"qk_norm": True, "qkv_bias": False},
    "gated-attention": {"attention": {"gated": True}},
    "wide-heads": {"attention": {"attn_head_dim": 24}},
    "no-positions": {"pos_embed": "none"},
    "no-norms-at-the-end": {"final_norm": False},
    "oblong-patch": {"patch_size": (16, 8)},
    "oblong-native-size": {"img_size": (32, 96)},
    "dropout": {"drop_rate": 0.5, "pos_drop_rate": 0.5, "proj_drop_rate": 0.5, "attn_drop_rate": 0.5},
    "drop-path": {"drop_path_rate": 0.5, "patch_drop_rate": 0.5},
}


def randomize(model: nn.Module, seed: int = 1) -> nn.Module:
    """Weights that leave no step without effect: norm gains around 1, layer scales around 0.5, biases, tokens."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("gamma"):
            weight.data = 0.5 + 0.2 * noise
        elif "norm" in name and name.endswith("weight"):
            weight.data = 1 + 0.3 * noise
        elif weight.ndim == 1:
            weight.data = 0.1 * noise
        elif name.endswith(("pos_embed", "token", "latent")):
            weight.data = 0.5 * noise
        else:
            weight.data = noise / weight[0].numel() ** 0.5
    return model.eval()


def build(kind: str = "augreg", *, distilled: bool = False, **settings) -> nn.Module:
    cls = deit.VisionTransformerDistilled if distilled else vision_transformer.VisionTransformer
    settings = {**SMALL, **KINDS[kind], **settings}
    attention = settings.pop("attention", None)
    model = cls(**settings)
    if attention:
        for block in model.blocks:
            block.attn = layers.Attention(WIDTH, num_heads=HEADS, qkv_bias=True, **attention)
    return randomize(model)


def backbone_of(model: nn.Module):
    return timm_backbone(model, "timm:small", **NORMALIZE)


def photos(height: int = SIZE, width: int = SIZE, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


def resized(model: nn.Module, height: int, width: int) -> nn.Module:
    """timm's own way to another size: positions resampled, everything else shared."""
    stock = copy.deepcopy(model)
    stock.set_input_size((height, width))
    return stock


def close(ours: Tensor, theirs: Tensor) -> bool:
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 0.01  # an output of zeros would agree with anything
    return (ours - theirs).abs().max().item() <= TOLERANCE


# Parity with the stock model


@pytest.mark.parametrize("height,width", [(None, None), (96, 96), (48, 112)], ids=["native", "larger", "oblong"])
@pytest.mark.parametrize("kind", KINDS)
def test_output_is_the_stock_models(kind, height, width):
    model = build(kind)
    height, width = (height, width) if height else model.patch_embed.img_size
    images = photos(height, width)
    with torch.no_grad():
        assert close(backbone_of(model)(images), resized(model, height, width)(images))


@pytest.mark.parametrize("kind", ["augreg", "dinov2-registers", "siglip", "aimv2", "no-positions"])
def test_a_model_of_dynamic_size_runs_at_any_size(kind):
    fixed = build(kind)
    dynamic = build(kind, dynamic_img_size=True)
    dynamic.load_state_dict(fixed.state_dict())
    with torch.no_grad():
        for size in [(64, 64), (96, 96), (48, 112)]:
            theirs = dynamic(photos(*size))
            assert close(backbone_of(dynamic)(photos(*size)), theirs)
            assert close(backbone_of(fixed)(photos(*size)), theirs)


@pytest.mark.parametrize("classes", [CLASSES, 0])
@pytest.mark.parametrize("height,width", [(64, 64), (96, 96), (48, 112)])
def test_distilled_deit_gives_the_mean_of_its_two_heads(classes, height, width):
    model = build(distilled=True, num_classes=classes)
    backbone = backbone_of(model)
    assert (backbone.prefix, backbone.class_index) == (2, 0)
    with torch.no_grad():
        assert close(backbone(photos(height, width)), resized(model, height, width)(photos(height, width)))


def test_stock_attention_without_fusion_gives_the_same():
    model = build("query-key-norm")
    stock = copy.deepcopy(model)
    for block in stock.blocks:
        block.attn.fused_attn = False
    with torch.no_grad():
        assert close(backbone_of(model)(photos()), stock(photos()))


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3", "test_vit4"])
def test_timms_own_test_models_run_with_their_own_normalization(name):
    model = randomize(timm.create_model(name, pretrained=False))
    backbone = timm_backbone(model, f"timm:{name}")
    assert backbone.mean == tuple(model.pretrained_cfg["mean"])
    assert backbone.std == tuple(model.pretrained_cfg["std"])
    images = photos(*model.patch_embed.img_size)
    with torch.no_grad():
        assert close(backbone(images), model(images))


def test_pixels_that_fill_no_patch_are_padded_evenly():
    backbone = backbone_of(build())
    images = photos(60, 72)
    padded = nn.functional.pad(images, (4, 4, 2, 2))
    assert torch.equal(backbone.trunk(images), backbone.trunk(padded))


def test_a_stock_size_that_is_no_multiple_of_the_patch_counts_its_whole_patches():
    # SigLIP So400m: 384 pixels, patch 14; the stock convolution drops the last 6 rows and columns.
    model = build("siglip", img_size=70, patch_size=16)
    backbone = backbone_of(model)
    images = photos(70, 70)
    assert backbone.native_size == (64, 64)
    with torch.no_grad():
        assert close(backbone(images[..., :64, :64]), model(images))


def test_a_batch_equals_its_images_one_by_one():
    backbone = backbone_of(build("dinov2-registers"))
    together = backbone(photos(count=3))
    alone = torch.cat([backbone(image[None]) for image in photos(count=3)])
    assert torch.allclose(together, alone, atol=TOLERANCE)


# Taps


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_the_attention_changes_nothing(kind):
    backbone = backbone_of(build(kind))
    images = photos(48, 80)
    fused = backbone.trunk(images)
    made = backbone.trunk(images, tap=Recorder("attention"))
    assert (fused - made).abs().max() <= TOLERANCE


@pytest.mark.parametrize("kind", ["augreg", "dinov2-registers", "dinov2-giant", "siglip", "aimv2", "gated-attention"])
def test_every_tap_has_its_shape_at_every_layer(kind):
    model = build(kind)
    backbone = backbone_of(model)
    images = photos(48, 80)
    recorder = Recorder(*TAPS)
    backbone.trunk(images, tap=recorder)
    recording = recorder.recording
    layout = backbone.layout(images)
    assert layout.tokens == model.num_prefix_tokens + 3 * 5
    sizes = {"B": 2, "T": layout.tokens, "D": WIDTH, "H": HEADS, "d": model.blocks[0].attn.head_dim}
    sizes["F"] = model.blocks[0].mlp.fc2.in_features
    for name, place in ALWAYS.items():
        expected = tuple(sizes[letter.strip()] for letter in place.shape.strip("()").split(","))
        for layer in range(1, DEPTH + 1):
            assert tuple(recording[name, layer].shape) == expected, (name, layer)


def test_the_gated_product_is_the_hidden_layer():
    backbone = backbone_of(build("dinov2-giant"))
    recorder = Recorder("block_sum", "ffn_hidden")
    backbone.trunk(photos(), tap=recorder)
    block = backbone.model.blocks[1]
    gate, value = block.mlp.fc1(block.norm2(recorder.recording["block_sum", 2])).split(128, dim=-1)
    assert torch.allclose(recorder.recording["ffn_hidden", 2], gate * torch.sigmoid(gate) * value, atol=1e-6)


@pytest.mark.parametrize("kind", ["augreg", "query-key-norm", "dinov2-registers", "siglip"])
def test_attention_is_the_softmax_of_the_stock_projections(kind):
    backbone = backbone_of(build(kind))
    images = photos(48, 80)
    recorder = Recorder("block_in", "attention")
    backbone.trunk(images, tap=recorder)
    for layer in range(1, DEPTH + 1):
        block = backbone.model.blocks[layer - 1]
        attention = recorder.recording["attention", layer]
        assert torch.allclose(attention.sum(dim=-1), torch.ones_like(attention[..., 0]), atol=TOLERANCE)
        q, k, _ = block.attn.qkv(block.norm1(recorder.recording["block_in", layer])).split(WIDTH, dim=-1)
        for head in range(HEADS):
            channels = slice(head * 16, head * 16 + 16)
            queries, keys = block.attn.q_norm(q[..., channels]), block.attn.k_norm(k[..., channels])
            expected = torch.einsum("bid,bjd->bij", queries, keys).div(4).softmax(dim=-1)
            assert torch.allclose(attention[:, head], expected, atol=TOLERANCE)


def test_block_outputs_are_the_stock_blocks():
    model = build("dinov2-registers")
    recorder = Recorder("block_out")
    backbone_of(model).trunk(photos(), tap=recorder)
    _, theirs = model.forward_intermediates(photos(), return_prefix_tokens=True, output_fmt="NLC")
    for layer, (patches, prefix) in enumerate(theirs, start=1):
        assert torch.allclose(recorder.recording["block_out", layer], torch.cat([prefix, patches], 1), atol=TOLERANCE)


# Prefix tokens


@pytest.mark.parametrize(
    "kind,prefix,class_index",
    [
        ("augreg", 1, 0),
        ("dinov2-registers", 5, 0),
        ("registers-without-class-token", 4, None),
        ("registers-with-positions", 3, 0),
        ("siglip", 0, None),
    ],
)
def test_prefix_tokens_and_patches_are_kept_apart(kind, prefix, class_index):
    model = build(kind)
    backbone = backbone_of(model)
    images = photos(SIZE, SIZE)
    layout = backbone.layout(images)
    tokens = backbone.trunk(images, stop=0)
    assert (layout.prefix, layout.class_index) == (prefix, class_index)

    table = model.pos_embed[0]
    rows = table[-16:]
    embedded = model.patch_embed.proj(images).flatten(2).mT
    assert torch.equal(layout.patches(tokens), embedded + rows)

    parameters = [token[0] for token in (model.cls_token, model.reg_token) if token is not None]
    special = torch.cat(parameters) if parameters else torch.empty(0, WIDTH)
    if not model.no_embed_class:
        special = special + table[:prefix]
    assert torch.equal(tokens[:, :prefix], special.expand(2, -1, -1))


def test_other_registers_leave_the_embedded_patches_alone():
    model = build("dinov2-registers")
    backbone = backbone_of(model)
    layout = backbone.layout(photos())
    before = backbone.trunk(photos(), stop=0)
    model.reg_token.data = model.reg_token + 5
    after = backbone.trunk(photos(), stop=0)
    assert torch.equal(layout.patches(before), layout.patches(after))
    assert not torch.equal(before[:, 1:5], after[:, 1:5])


# Where tokens go at the end


@pytest.mark.parametrize("kind", ["augreg", "deit3", "clip", "token-with-norm-after"])
def test_the_class_tokens_projection_on_the_head_is_the_logits(kind):
    model = build(kind)
    backbone = backbone_of(model)
    tokens = backbone.trunk(photos())
    projected = backbone.layout(photos()).class_token(backbone.project(tokens))
    assert torch.allclose(projected @ backbone.class_head().mT + model.head.bias, model(photos()), atol=TOLERANCE)


def test_distilled_class_and_distillation_token_share_the_mean_head():
    model = build(distilled=True)
    backbone = backbone_of(model)
    rows = backbone.class_head()
    assert torch.allclose(rows, (model.head.weight + model.head_dist.weight) / 2)
    tokens = backbone.trunk(photos())
    bias = (model.head.bias + model.head_dist.bias) / 2
    assert torch.allclose(backbone.project(tokens) @ rows.mT + bias, backbone.tower.dense(tokens), atol=TOLERANCE)


@pytest.mark.parametrize(
    "kind", ["siglip", "map-with-registers", "mean", "maximum", "mean-and-maximum", "prr", "aimv2"]
)
def test_a_dense_token_is_what_the_stock_model_makes_of_a_image_of_that_token_alone(kind):
    model = build(kind)
    tower = TimmTower(model, kind)
    tokens = backbone_of(model).trunk(photos())
    dense = tower.dense(tokens)
    # The stock pooling gets sequences of one patch; prefix tokens before it are there only to be dropped.
    skipped = 0 if model.pool_include_prefix else model.num_prefix_tokens
    for index in (0, tokens.shape[1] - 1):
        repeated = tokens[:, index, None].expand(-1, skipped + 1, -1)
        assert torch.allclose(dense[:, index], model.forward_head(model.norm(repeated)), atol=TOLERANCE)


def test_mean_pooled_logits_are_the_mean_of_dense_tokens_when_no_norm_follows():
    model = build("mean-norm-before")
    backbone = backbone_of(model)
    tokens = backbone.trunk(photos())
    assert torch.allclose(backbone.tower.dense(tokens).mean(dim=1), backbone.pool(tokens), atol=TOLERANCE)


def test_pool_stops_before_the_head_when_asked():
    model = build("mean")
    tower = TimmTower(model, "small")
    tokens = backbone_of(model).trunk(photos())
    feature = tower.pool(tokens, pre_logits=True)
    assert feature.shape == (2, WIDTH)
    assert torch.equal(model.head(feature), tower.pool(tokens))


def test_a_model_without_classifier_says_so():
    with pytest.raises(ValueError, match="`timm:small` has no classifier head"):
        backbone_of(build("dino")).class_head()


def test_weights_are_the_same_before_and_after():
    model = build("dinov2-giant")
    before = copy.deepcopy(model.state_dict())
    backbone = backbone_of(model)
    backbone(photos(48, 80))
    backbone.project(backbone.trunk(photos(), tap=Recorder(*TAPS)))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


# Refusals


def test_a_part_that_cannot_run_is_refused_by_name():
    model = vision_transformer.VisionTransformer(**SMALL, mlp_layer=layers.GatedMlp)
    with pytest.raises(ValueError, match=r"`timm:small` can't run.* `GatedMlp`: .*What runs: .*vit_base_patch16_224"):
        backbone_of(model)


@pytest.mark.parametrize(
    "name,kind",
    [
        ("test_convnext", "ConvNeXt"),
        ("test_resnet", "ResNet"),
        ("samvit_base_patch16", "VisionTransformerSAM"),
        ("swin_tiny_patch4_window7_224", "SwinTransformer"),
        ("hiera_tiny_224", "Hiera"),
        ("sam2_hiera_tiny", "HieraDet"),
    ],
)
def test_models_that_cannot_run_are_refused_by_name_before_any_download(name, kind, monkeypatch):
    build_model = timm.create_model

    def create_model(*arguments, pretrained=False, **settings):
        assert not pretrained, "went to the network"
        return build_model(*arguments, pretrained=pretrained, **settings)

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(ValueError, match=rf"`timm:{name}` can't run: .*`{kind}`"):
        load_timm(name)


@pytest.mark.parametrize(
    "name,reason",
    [
        ("samvit_base_patch16", "attend within windows.*nearest to it is `timm:vit_base_patch16_224.mae`"),
        ("hiera_tiny_224", "grid of tokens shrinks between stages.*nearest to it is `timm:vit_base_patch16_224.mae`"),
        ("test_resnet", "convolutional network.*nearest to it is `timm:vit_base_r50_s16_224`"),
    ],
)
def test_a_model_that_cannot_run_gets_the_true_reason_and_the_nearest_one(name, reason):
    with pytest.raises(ValueError, match=reason):
        load_timm(name)


def test_a_subclass_is_refused_even_if_it_looks_the_same():
    class Attention(layers.Attention):
        def forward(self, x, **masks):
            return -super().forward(x, **masks)

    model = build()
    model.blocks[1].attn = Attention(WIDTH, num_heads=HEADS)
    with pytest.raises(ValueError, match="its attention is `Attention`: its forward pass is not known"):
        backbone_of(model)


def test_a_model_that_pools_nothing_is_shown_how_to_pool():
    with pytest.raises(ValueError, match="reset_classifier"):
        backbone_of(build(global_pool=""))


def test_a_model_for_other_channels_is_refused():
    with pytest.raises(ValueError, match="4 channels"):
        backbone_of(build(in_chans=4))


def test_a_model_without_normalization_is_refused():
    with pytest.raises(ValueError, match="pretrained_cfg"):
        timm_backbone(build(), "timm:small")


# Names and files


@pytest.fixture
def vit_tiny(monkeypatch):
    """`vit_tiny_patch16_224` and its kin in miniature: the real entry points with smaller numbers."""
    build_model = timm.create_model

    def create_model(name, **settings):
        return build_model(name, **{"img_size": SIZE, "embed_dim": WIDTH, "depth": DEPTH, **settings})

    monkeypatch.setattr(timm, "create_model", create_model)
    return create_model


def saved(tensors, path) -> str:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return str(path)


def test_an_unknown_name_gets_the_near_one():
    with pytest.raises(
        UnknownName, match=r"no timm model `vit_tiny_patch16_242`\. Did you mean `vit_tiny_patch16_224`"
    ):
        load_timm("vit_tiny_patch16_242")


def test_an_unknown_tag_gets_the_near_one():
    with pytest.raises(UnknownName, match=r"Did you mean `vit_base_patch16_224\.dino`"):
        load_timm("vit_base_patch16_224.dinno")


@pytest.mark.parametrize(
    "name, right",
    [
        ("vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_quickgelu_224.openai"),
        ("vit_base_patch16_clip_224.openai@weights.safetensors", "vit_base_patch16_clip_quickgelu_224.openai"),
        ("vit_huge_patch14_clip_378", "vit_huge_patch14_clip_quickgelu_378.dfn5b"),
    ],
)
def test_weights_that_need_quickgelu_are_sent_to_its_architecture(name, right):
    with pytest.raises(ValueError, match=rf"trained with QuickGELU, .* Use `timm:{re.escape(right)}`"):
        load_timm(name)


@pytest.mark.parametrize("name", ["vit_base_patch16_clip_quickgelu_224.openai", "vit_base_patch16_clip_224.laion2b"])
def test_weights_under_their_own_activation_are_fetched(name, monkeypatch):
    def fetch(asked):
        raise OSError(f"fetching {asked}")

    monkeypatch.setattr("diagnostics.backbones.timm._download", fetch)
    with pytest.raises(OSError, match=f"fetching {name}"):
        load_timm(name)


@pytest.mark.parametrize("name", ["hf-hub:timm/vit_tiny_patch16_224", "timm/vit_tiny_patch16_224"])
def test_a_hub_id_is_sent_to_its_own_door(name):
    with pytest.raises(ValueError, match="hf-hub:org/name"):
        load_timm(name)


def test_an_architecture_without_published_weights_asks_for_a_file():
    with pytest.raises(ValueError, match=r"no published weights for `vit_gigantic_patch14_224`; .*@FILE`"):
        load_timm("vit_gigantic_patch14_224")


def test_a_failed_download_names_the_model_and_the_file_way(monkeypatch):
    build_model = timm.create_model

    def offline(name, *, pretrained=False, **settings):
        if pretrained:
            raise ConnectionError("no route to host")
        return build_model(name, **settings)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(OSError, match=r"`vit_tiny_patch16_224`.*no route to host.*`timm:vit_tiny_patch16_224@FILE`"):
        load_timm("vit_tiny_patch16_224")


def test_published_weights_come_with_their_normalization(monkeypatch):
    build_model = timm.create_model
    asked = []

    def create_model(name, *, pretrained=False, **settings):
        asked.append((name, pretrained))
        return build_model(name, pretrained=False, **settings)

    monkeypatch.setattr(timm, "create_model", create_model)
    backbone = load_timm("vit_tiny_patch16_224")
    assert asked[-1] == ("vit_tiny_patch16_224", True)
    assert backbone.spec == "timm:vit_tiny_patch16_224"
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("classes", [1000, 5, 0])
def test_a_file_brings_its_own_number_of_classes(classes, vit_tiny, tmp_path):
    model = randomize(vit_tiny("vit_tiny_patch16_224", num_classes=classes))
    path = saved(model.state_dict(), tmp_path / "weights.safetensors")
    backbone = load_timm(f"vit_tiny_patch16_224@{path}")
    assert backbone.spec == f"timm:vit_tiny_patch16_224@{path}"
    assert backbone.mean == (0.5, 0.5, 0.5)
    assert backbone.note == ("" if classes else "the file has no classifier head")
    with torch.no_grad():
        assert torch.equal(backbone(photos()), backbone.model(photos()))
        assert close(backbone(photos()), model(photos()))
    if classes:
        assert backbone.class_head().shape == (classes, WIDTH)


def test_the_tag_beside_a_file_sets_the_normalization(vit_tiny, tmp_path):
    model = vit_tiny("vit_base_patch16_224.dino")
    path = saved(model.state_dict(), tmp_path / "dino.safetensors")
    backbone = load_timm(f"vit_base_patch16_224.dino@{path}")
    assert backbone.mean == tuple(timm.data.IMAGENET_DEFAULT_MEAN)
    assert backbone.std == tuple(timm.data.IMAGENET_DEFAULT_STD)


def test_a_distilled_file_fills_both_heads(vit_tiny, tmp_path):
    model = randomize(vit_tiny("deit_tiny_distilled_patch16_224", num_classes=6))
    path = saved(model.state_dict(), tmp_path / "deit.safetensors")
    backbone = load_timm(f"deit_tiny_distilled_patch16_224@{path}")
    with torch.no_grad():
        assert close(backbone(photos()), model(photos()))


def test_a_file_of_another_size_is_resampled_as_timm_does(vit_tiny, tmp_path):
    large = randomize(vit_tiny("vit_tiny_patch16_224", img_size=96))
    path = saved(large.state_dict(), tmp_path / "large.safetensors")
    backbone = load_timm(f"vit_tiny_patch16_224@{path}")
    assert "pos_embed (1, 37, 48) -> (1, 17, 48)" in backbone.note
    with torch.no_grad():
        assert close(backbone(photos()), resized(large, SIZE, SIZE)(photos()))


def test_dinov2s_original_layout_with_registers_is_understood(vit_tiny, tmp_path):
    stock = randomize(vit_tiny("vit_small_patch14_reg4_dinov2.lvd142m", img_size=70))
    state = dict(stock.state_dict())
    # Meta's files: positions have a row for the class token, registers have none; and a token for masked patches.
    state["register_tokens"] = state.pop("reg_token")
    class_position = torch.full((1, 1, WIDTH), 0.25)
    state["cls_token"] = state["cls_token"] - class_position
    state["pos_embed"] = torch.cat([class_position, state["pos_embed"]], dim=1)
    state["mask_token"] = torch.zeros(1, WIDTH)
    path = saved(state, tmp_path / "dinov2.safetensors")
    backbone = load_timm(f"vit_small_patch14_reg4_dinov2.lvd142m@{path}")
    # The miniature is built at 64 pixels: 4 x 4 whole patches of 14.
    images = photos(56, 56)
    with torch.no_grad():
        assert close(backbone(images), resized(stock, 56, 56)(images))


def test_deit3s_original_layer_scales_are_understood(vit_tiny, tmp_path):
    stock = randomize(vit_tiny("deit3_small_patch16_224", num_classes=4))
    state = {
        name.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): value
        for name, value in stock.state_dict().items()
    }
    path = saved(state, tmp_path / "deit3.safetensors")
    with torch.no_grad():
        assert close(load_timm(f"deit3_small_patch16_224@{path}")(photos()), stock(photos()))


def test_a_file_that_does_not_fit_names_what_is_missing_and_what_is_too_much(vit_tiny, tmp_path):
    state = dict(vit_tiny("vit_tiny_patch16_224").state_dict())
    state["blocks.0.attn.extra"] = state.pop("blocks.0.norm1.weight")
    path = saved(state, tmp_path / "odd.safetensors")
    with pytest.raises(ValueError, match=r"missing: blocks\.0\.norm1\.weight; .*unexpected: blocks\.0\.attn\.extra"):
        load_timm(f"vit_tiny_patch16_224@{path}")


def test_a_file_whose_patches_have_another_shape_is_refused(vit_tiny, tmp_path):
    tensors = dict(vit_tiny("vit_tiny_patch16_224").state_dict())
    tensors["patch_embed.proj.weight"] = tensors["patch_embed.proj.weight"][..., ::2]
    path = saved(tensors, tmp_path / "oblong.safetensors")
    with pytest.raises(ValueError, match=r"oblong.safetensors` was made with patches of 8x16 pixels.* has 16x16"):
        load_timm(f"vit_tiny_patch16_224@{path}")


def test_a_file_of_another_width_names_the_shapes(vit_tiny, tmp_path):
    state = vit_tiny("vit_tiny_patch16_224", embed_dim=96).state_dict()
    path = saved(state, tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match=r"of another shape: .*\(96,\) where \(48,\) is expected"):
        load_timm(f"vit_tiny_patch16_224@{path}")


def test_a_file_of_another_kind_names_what_it_lacks(vit_tiny, tmp_path):
    path = saved(vit_tiny("vit_tiny_patch16_224").state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match=r"missing: .*dist_token, .*pos_embed \(1, 17, 48\) where \(1, 18, 48\)"):
        load_timm(f"deit_tiny_distilled_patch16_224@{path}")


def test_a_file_in_radios_layout_is_refused(vit_tiny, tmp_path):
    path = saved({"radio_model.model.patch_generator.pos_embed": torch.zeros(1, 4, 8)}, tmp_path / "radio.safetensors")
    with pytest.raises(ValueError, match="RADIO"):
        load_timm(f"vit_base_patch16_radio_v3@{path}")


def test_broken_weights_are_refused_by_name(vit_tiny, tmp_path):
    state = vit_tiny("vit_tiny_patch16_224").state_dict()
    state["blocks.1.mlp.fc1.weight"][3, 4] = float("nan")
    path = saved(state, tmp_path / "broken.safetensors")
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp\.fc1\.weight"):
        load_timm(f"vit_tiny_patch16_224@{path}")


FAMILIES = ("vit_tiny_patch16_dinov3_qkvb", "eva02_tiny_patch14_224", "beit_base_patch16_224", "vitamin_small_224")


@pytest.mark.parametrize("name", [*FAMILIES, "vit_relpos_small_patch16_224", "naflexvit_base_patch16_siglip"])
def test_a_file_of_another_family_loads_as_it_was_saved(name, monkeypatch, tmp_path):
    build_model = timm.create_model

    def create_model(name, **settings):
        return build_model(name, **{"depth": 1, **settings})

    monkeypatch.setattr(timm, "create_model", create_model)
    model = randomize(create_model(name, num_classes=5))
    file = saved(model.state_dict(), tmp_path / "weights.safetensors")
    backbone = load_timm(f"{name}@{file}")
    images = photos(*(2 * side for side in backbone.patch_size), count=1)
    assert torch.equal(backbone(images), timm_backbone(model, "same")(images))
    assert backbone(images).shape == (1, 5)
