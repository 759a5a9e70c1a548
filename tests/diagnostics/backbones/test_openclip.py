import copy
from functools import cache

import open_clip
import pytest
import torch
from open_clip.model import CustomTextCLIP, resize_pos_embed
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from diagnostics.backbones import load_backbone
from diagnostics.backbones import openclip as adapter
from diagnostics.backbones.openclip import check_config, clip_backbone
from diagnostics.backbones.tiny import randomize
from diagnostics.registry import UnknownName
from diagnostics.taps import TAPS, Recorder

# The places that models without a relative bias pass.
ALWAYS = {name: place for name, place in TAPS.items() if name != "attention_bias"}

TEXT = {"layers": 1, "width": 8, "heads": 2}  # narrow: its token table is by far the largest weight
VISION = {"layers": 3, "width": 48, "head_width": 24, "patch_size": 16, "image_size": 64}
SIZES = [(64, 64), (96, 96), (80, 112)]  # native, another, and a non-square one

# What each variant adds to the image tower, and whether it has QuickGELU.
EVERYTHING = {
    "qk_norm": True,
    "scale_heads": True,
    "scale_attn_inner": True,
    "scale_attn": True,
    "scale_fc": True,
    "ls_init_value": 0.1,
    "norm_kwargs": {"eps": 1e-3},
    "mlp_ratio": 2.5,
}
VARIANTS = {
    "quickgelu": ({}, True),
    "gelu": ({}, False),
    "layer scale": ({"ls_init_value": 0.1}, False),
    "no norm before the blocks": ({"no_ln_pre": True}, False),
    "mean pool": ({"pool_type": "avg"}, False),
    "CLIPA": ({"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}, False),
    "class token, norm after": ({"final_ln_after_pool": True}, False),
    "sin-cos positions": ({"pos_embed_type": "sin_cos_2d"}, False),
    "CoCa": ({"attentional_pool": True, "attn_pooler_queries": 5, "attn_pooler_heads": 4}, False),
    "CoCa of joint width": ({"attentional_pool": True, "attn_pooler_queries": 3, "width": 40, "head_width": 20}, False),
    "own blocks": ({"block_type": "custom"}, False),
    "q/k norm": ({"qk_norm": True}, False),
    "head scale": ({"scale_heads": True}, True),
    "inner norm": ({"scale_attn_inner": True}, False),
    "attention norm": ({"scale_attn": True}, False),
    "hidden norm": ({"scale_fc": True}, True),
    "everything": (EVERYTHING, True),
}


@cache
def stock(variant, size=(64, 64)):
    """The variant's stock model, its weights brought to another image size by open_clip's own resizing."""
    vision, quick_gelu = VARIANTS[variant]
    if size == (64, 64):
        model = open_clip.CLIP(40, vision_cfg=VISION | vision, text_cfg=TEXT, quick_gelu=quick_gelu).eval()
        positions = model.visual.positional_embedding.clone()
        randomize(model, seed=3)
        if "pos_embed_type" in vision:
            model.visual.positional_embedding.data = positions
        return model
    # The sin-cos table is built for square images only; it is loaded like a learned one.
    vision = {name: value for name, value in vision.items() if name != "pos_embed_type"}
    vision = VISION | vision | {"image_size": size}
    model = open_clip.CLIP(40, vision_cfg=vision, text_cfg=TEXT, quick_gelu=quick_gelu).eval()
    state = copy.deepcopy(stock(variant).state_dict())
    resize_pos_embed(state, model)
    model.load_state_dict(state)
    return model


def backbone_over(model, **fields):
    settings = {"spec": "test", "mean": (0.5,) * 3, "std": (0.5,) * 3, "make_tokenizer": open_clip.SimpleTokenizer}
    return clip_backbone(model, **settings | fields)


def photos(size=(64, 96), count=2):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def apart(a, b):
    return (a - b).abs().max().item()


every_variant = pytest.mark.parametrize("variant", VARIANTS)


# Parity


@every_variant
@pytest.mark.parametrize("size", SIZES)
def test_output_is_the_stock_output(variant, size):
    images = photos(size)
    with torch.no_grad():
        expected = stock(variant, size).encode_image(images)
    assert expected.std() > 0.1
    assert apart(backbone_over(stock(variant))(images), expected) <= 1e-5


@every_variant
def test_made_attention_gives_what_fused_attention_gives(variant):
    backbone, recorder = backbone_over(stock(variant)), Recorder("attention")
    fused = backbone.trunk(photos())
    assert apart(backbone.trunk(photos(), tap=recorder), fused) <= 1e-5
    weights = recorder.recording.stack("attention")
    assert apart(weights.sum(-1), torch.ones(weights.shape[:-1])) <= 1e-5


@every_variant
def test_every_tap_has_its_shape_at_every_layer(variant):
    backbone, recorder = backbone_over(stock(variant)), Recorder(*TAPS)
    layout = backbone.layout(photos())
    backbone.trunk(photos(), tap=recorder)
    hidden = backbone.model.visual.transformer.resblocks[0].mlp.c_fc.out_features
    sizes = {"B": 2, "T": layout.tokens, "D": backbone.width, "H": backbone.heads, "F": hidden}
    sizes["d"] = backbone.width // backbone.heads
    assert (layout.tokens, layout.grid) == (25, (4, 6))
    for name, place in ALWAYS.items():
        letters = place.shape.strip("()").split(", ")
        layers = [0, 1, 2, 3] if name == "block_out" else [1, 2, 3]
        assert recorder.recording.layers(name) == layers
        for layer in layers:
            assert list(recorder[name, layer].shape) == [sizes[letter] for letter in letters]


@every_variant
def test_a_tap_at_any_place_changes_the_output(variant):
    backbone = backbone_over(stock(variant))
    plain = backbone.trunk(photos())
    for place in ALWAYS:

        def change(name, layer, value, place=place):
            # Of one half of the channels only: a norm that follows would undo a change of all alike.
            if (name, layer) != (place, 2):
                return value
            value = value.clone()
            value[..., : value.shape[-1] // 2] *= 1.5
            return value

        assert apart(backbone.trunk(photos(), tap=change), plain) > 1e-3, place


@every_variant
def test_a_pass_leaves_the_weights_as_they_were(variant):
    model = stock(variant)
    before = copy.deepcopy(model.state_dict())
    backbone = backbone_over(model)
    backbone.project(backbone.trunk(photos(), tap=Recorder(*TAPS)))
    backbone.encode_text(["a cat"])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@every_variant
def test_a_batch_equals_its_images_one_by_one(variant):
    backbone, images = backbone_over(stock(variant)), photos(count=3)
    assert apart(backbone(images), torch.cat([backbone(image[None]) for image in images])) <= 1e-5


# Dense features


@every_variant
def test_dense_features_are_what_the_pool_makes_of_a_token_alone(variant):
    backbone = backbone_over(stock(variant))
    tokens = backbone.trunk(photos())
    dense = backbone.project(tokens)
    assert dense.shape == (2, 25, 40)
    for token in (0, 7, 24):
        alone = tokens[:, [token]]
        # The mean pool drops the first token as class token; give it one to drop.
        alone = alone.expand(-1, 2, -1) if "avg" in VARIANTS[variant][0].values() else alone
        assert apart(dense[:, token], backbone.pool(alone)) <= 1e-5


# SigLIP and other timm towers


def siglip(**changes):
    """open_clip's SigLIP in small: a timm trunk without class token, pooled by attention."""
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "none", "image_size": 64}
    model = CustomTextCLIP(40, vision_cfg=vision, text_cfg=TEXT)
    trunk = {"class_token": False, "global_pool": "map", "num_classes": 0, "pre_norm": False} | changes
    model.visual.trunk = VisionTransformer(
        img_size=64, patch_size=16, embed_dim=40, depth=2, num_heads=2, dynamic_img_size=True, **trunk
    )
    randomize(model, seed=4)
    return model.eval()


TIMM_TOWERS = {
    "SigLIP": {},
    "class token and classifier as projection": {"class_token": True, "global_pool": "token", "num_classes": 24},
    "mean pool": {"global_pool": "avg", "qk_norm": True},
    "registers": {"class_token": True, "reg_tokens": 2, "global_pool": "token"},
}


@pytest.mark.parametrize("tower", TIMM_TOWERS)
@pytest.mark.parametrize("head", ["none", "linear"])
@pytest.mark.parametrize("size", SIZES)
def test_a_timm_tower_gives_the_stock_output(tower, head, size):
    model = siglip(**TIMM_TOWERS[tower])
    if head == "linear":
        model.visual.head = torch.nn.Sequential()
        model.visual.head.append(torch.nn.Dropout()).append(torch.nn.Linear(24 if "classifier" in tower else 40, 16))
    model.eval()
    backbone, images = backbone_over(model), photos(size)
    with torch.no_grad():
        expected = model.encode_image(images)
    assert apart(backbone(images), expected) <= 1e-5
    dense = backbone.project(backbone.trunk(images))
    assert dense.shape == (2, backbone.layout(images).tokens, expected.shape[1])
    assert backbone.layout(images).prefix == {"SigLIP": 0, "mean pool": 0, "registers": 3}.get(tower, 1)


def test_a_timm_tower_keeps_its_text_tower():
    model = siglip()
    texts = ["a cat", "two dogs"]
    with torch.no_grad():
        expected = model.encode_text(open_clip.SimpleTokenizer()(texts))
    assert apart(backbone_over(model).encode_text(texts), expected) <= 1e-5


# Text


def test_text_features_are_the_stock_ones_however_many_texts(monkeypatch):
    model = stock("quickgelu")
    texts = ["a photo of a cat", "a dog", "", "two cats on a sofa", "sky"]
    with torch.no_grad():
        expected = model.encode_text(open_clip.SimpleTokenizer()(texts))
    monkeypatch.setattr(adapter, "TEXT_BATCH", 2)
    features = backbone_over(model).encode_text(texts)
    assert features.shape == (5, 40)
    assert apart(features, expected) <= 1e-5


def test_coca_text_features_are_not_normalized():
    multimodal = {"layers": 1, "width": 32, "heads": 2, "context_length": 76}
    model = open_clip.CoCa(
        40,
        multimodal_cfg=multimodal,
        text_cfg=TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True},
        vision_cfg=VISION | {"attentional_pool": True, "output_tokens": True},
    ).eval()
    randomize(model, seed=5)
    backbone = backbone_over(model, make_tokenizer=lambda: open_clip.SimpleTokenizer(context_length=76))
    with torch.no_grad():
        text = model.encode_text(open_clip.SimpleTokenizer(context_length=76)(["a cat"]), normalize=False)
        image = model.encode_image(photos((64, 64)), normalize=False)
    assert apart(backbone.encode_text(["a cat"]), text) <= 1e-5
    assert apart(backbone(photos((64, 64))), image) <= 1e-5
    assert not torch.isclose(text.norm(), torch.tensor(1.0), atol=1e-2)


@pytest.mark.parametrize("texts", ["a cat", [3]])
def test_what_is_no_list_of_texts_is_refused(texts):
    with pytest.raises(TypeError, match="list of strings"):
        backbone_over(stock("gelu")).encode_text(texts)


def test_no_text_at_all_is_refused():
    with pytest.raises(ValueError, match="at least one text"):
        backbone_over(stock("gelu")).encode_text([])


def test_a_tokenizer_that_cannot_be_made_fails_only_when_texts_come():
    def offline():
        raise OSError("no network")

    backbone = backbone_over(stock("gelu"), make_tokenizer=offline)
    assert backbone(photos()).shape == (2, 40)
    with pytest.raises(ValueError, match=r"tokenizer of `test` could not be made: no network.*transformers"):
        backbone.encode_text(["a cat"])


# What cannot be run


def unsupported_reason(vision, **changes):
    check_config({"embed_dim": 40, "vision_cfg": VISION | vision, "text_cfg": TEXT} | changes, "mine")


@pytest.mark.parametrize(
    "vision, named",
    [
        ({"layers": [1, 1, 1, 1], "width": 32}, "ModifiedResNet"),
        ({"scaled_cosine_attn": True}, "scaled cosine"),
        ({"attentional_pool": "parallel", "width": 40, "head_width": 20}, "parallel"),
        ({"pool_type": "none"}, "pool `none`"),
        ({"timm_model_name": "convnext_atto", "timm_pool": ""}, "ConvNeXt"),
        ({"timm_model_name": "swin_tiny_patch4_window7_224", "timm_pool": ""}, "SwinTransformer"),
    ],
)
def test_a_tower_that_cannot_be_run_is_refused_by_name(vision, named):
    with pytest.raises(ValueError, match=rf"`mine` .*{named}.*[Uu]se|`mine` can't run.*{named}.*for example"):
        unsupported_reason(vision)


def test_a_block_that_is_not_known_is_refused_by_name():
    class SandwichBlock(type(stock("gelu").visual.transformer.resblocks[0])):
        pass

    model = copy.deepcopy(stock("gelu"))
    model.visual.transformer.resblocks[1].__class__ = SandwichBlock
    with pytest.raises(ValueError, match="SandwichBlock"):
        backbone_over(model)


@pytest.mark.parametrize("name", ["ViT-B-16", "coca_ViT-B-32", "ViT-L-14-CLIPA", "ViT-B-16-SigLIP", "ViT-M-16-alt"])
def test_architectures_of_open_clip_are_accepted(name):
    check_config(open_clip.get_model_config(name), name)


def test_an_architecture_that_cannot_be_run_is_refused_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(open_clip, "download_pretrained", lambda *_: pytest.fail("fetched"))
    with pytest.raises(ValueError, match=r"RN50-quickgelu/openai.*ModifiedResNet"):
        load_backbone("open_clip:RN50-quickgelu/openai")


# Names and weights


@pytest.fixture
def shrunk(monkeypatch, tmp_path):
    """open_clip's ViT-B-16 in small, its published weights replaced by random ones: only the download is faked.

    Returns a function that puts a model's weights where the download of any tag finds them.
    """
    config = {"embed_dim": 40, "vision_cfg": VISION, "text_cfg": TEXT}
    for name in ("ViT-B-16", "ViT-L-14"):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, f"{name}-quickgelu", config | {"quick_gelu": True})

    def publish(model):
        path = tmp_path / "published.safetensors"
        save_file(model.state_dict(), path)
        monkeypatch.setattr(open_clip.pretrained, "hf_hub_download", lambda **_: str(path))
        return path

    return publish


@pytest.mark.parametrize(
    "spec, variant",
    [
        ("ViT-B-16/openai", "quickgelu"),
        ("ViT-B-16-quickgelu/openai", "quickgelu"),
        ("ViT-B-16-quickgelu/metaclip_400m", "quickgelu"),
        ("ViT-B-16/laion2b_s34b_b88k", "gelu"),
        ("ViT-B-16/datacomp-xl-s13b-b90k", "gelu"),
    ],
)
def test_a_tag_is_loaded_with_the_activation_that_its_weights_need(shrunk, spec, variant):
    shrunk(stock(variant))
    backbone, images = load_backbone(f"open_clip:{spec}"), photos((64, 64))
    other = {"quickgelu": "gelu", "gelu": "quickgelu"}[variant]
    with torch.no_grad():
        assert apart(backbone(images), stock(variant).encode_image(images)) <= 1e-5
        assert apart(backbone(images), stock(other).encode_image(images)) > 1e-3
        texts = stock(variant).encode_text(open_clip.SimpleTokenizer()(["a cat"]))
    assert apart(backbone.encode_text(["a cat"]), texts) <= 1e-5
    assert backbone.spec == f"open_clip:{spec}"
    assert backbone.mean == open_clip.OPENAI_DATASET_MEAN


def test_mean_and_std_are_those_of_the_tag(shrunk):
    shrunk(stock("gelu"))
    backbone = load_backbone("open_clip:ViT-L-14/laion2b_s32b_b82k")
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    "spec, right",
    [
        ("ViT-B-16/metaclip_400m", "ViT-B-16-quickgelu/metaclip_400m"),
        ("ViT-B-16/dfn2b", "ViT-B-16-quickgelu/dfn2b"),
        ("ViT-B-32/laion400m_e32", "ViT-B-32-quickgelu/laion400m_e32"),
        ("ViT-B-16-quickgelu/laion2b_s34b_b88k", "ViT-B-16/laion2b_s34b_b88k"),
        ("ViT-L-14-quickgelu/datacomp_xl_s13b_b90k", "ViT-L-14/datacomp_xl_s13b_b90k"),
    ],
)
def test_a_tag_under_the_other_activation_is_refused_with_the_right_name(spec, right):
    with pytest.raises(ValueError, match=f"Use `open_clip:{right}`"):
        load_backbone(f"open_clip:{spec}")


def test_every_published_tag_has_one_right_name():
    refused = 0
    for architecture, tag in open_clip.list_pretrained():
        try:
            needed = adapter._needs_quick_gelu(architecture, tag)
        except ValueError as error:
            refused += 1
            architecture, tag = str(error).rpartition("open_clip:")[2].rstrip("`.").split("/")
            needed = adapter._needs_quick_gelu(architecture, tag)
        assert needed or not open_clip.get_model_config(architecture).get("quick_gelu")
    assert refused > 10


def test_unknown_names_bring_the_near_one():
    with pytest.raises(UnknownName, match=r"`ViT-B-61`. Did you mean `ViT-B-16`"):
        load_backbone("open_clip:ViT-B-61/openai")
    with pytest.raises(UnknownName, match="Did you mean `openai`"):
        load_backbone("open_clip:ViT-B-16/opneai")


def test_a_name_without_weights_is_shown_the_tags():
    with pytest.raises(ValueError, match=r"ViT-B-16/TAG with a tag of openai, .*@FILE"):
        load_backbone("open_clip:ViT-B-16")


def test_a_failed_download_names_the_tag_and_the_way_without_network(shrunk, monkeypatch):
    def offline(**_):
        raise OSError("no route to host")

    monkeypatch.setattr(open_clip.pretrained, "hf_hub_download", offline)
    with pytest.raises(
        ValueError, match=r"`openai` of `ViT-B-16` .*no route to host.*open_clip:ViT-B-16-quickgelu@FILE"
    ):
        load_backbone("open_clip:ViT-B-16/openai")
    with pytest.raises(ValueError, match=r"`laion2b_s34b_b88k` of `ViT-B-16` .*open_clip:ViT-B-16@FILE"):
        load_backbone("open_clip:ViT-B-16/laion2b_s34b_b88k")


def test_a_damaged_download_names_the_file_to_delete(shrunk):
    path = shrunk(stock("quickgelu"))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"`open_clip:ViT-B-16/openai` .* from `.*published.safetensors`.*Delete"):
        load_backbone("open_clip:ViT-B-16/openai")


def test_a_text_tower_of_transformers_says_what_to_install(monkeypatch):
    monkeypatch.setattr(open_clip.hf_model, "transformers", None)
    with pytest.raises(ValueError, match=r"roberta-ViT-B-32/laion2b_s12b_b32k` could not be built.*pip install"):
        load_backbone("open_clip:roberta-ViT-B-32/laion2b_s12b_b32k")


# Local files


@pytest.mark.parametrize("variant", ["quickgelu", "gelu"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_file_follows_the_activation_of_the_name(shrunk, tmp_path, variant, suffix):
    path = tmp_path / f"weights{suffix}"
    state = stock(variant).state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save({"epoch": 3, "state_dict": state}, path)
    name = "ViT-B-16-quickgelu" if variant == "quickgelu" else "ViT-B-16"
    backbone = load_backbone(f"open_clip:{name}@{path}")
    images = photos((64, 64))
    with torch.no_grad():
        assert apart(backbone(images), stock(variant).encode_image(images)) <= 1e-5
    assert backbone.encode_text(["a cat"]).shape == (1, 40)


def test_openai_marks_in_a_file_refuse_a_name_without_quickgelu(shrunk, tmp_path):
    marks = {name: torch.tensor(64) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save(stock("quickgelu").state_dict() | marks, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"QuickGELU.*Use `openai:"):
        load_backbone(f"open_clip:ViT-B-16@{tmp_path}/clip.pt")
    backbone = load_backbone(f"open_clip:ViT-B-16-quickgelu@{tmp_path}/clip.pt")
    with torch.no_grad():
        assert apart(backbone(photos((64, 64))), stock("quickgelu").encode_image(photos((64, 64)))) <= 1e-5


def test_a_file_for_another_image_size_brings_its_own_native_size(shrunk, tmp_path):
    save_file(stock("gelu", (96, 96)).state_dict(), tmp_path / "at96.safetensors")
    backbone = load_backbone(f"open_clip:ViT-B-16@{tmp_path}/at96.safetensors")
    assert backbone.native_size == (96, 96)
    with torch.no_grad():
        assert apart(backbone(photos((96, 96))), stock("gelu", (96, 96)).encode_image(photos((96, 96)))) <= 1e-5


def test_a_file_without_a_text_tower_works_for_images(shrunk, tmp_path):
    state = {name: value for name, value in stock("gelu").state_dict().items() if name.startswith("visual.")}
    save_file(state, tmp_path / "visual.safetensors")
    backbone = load_backbone(f"open_clip:ViT-B-16@{tmp_path}/visual.safetensors")
    with torch.no_grad():
        assert apart(backbone(photos((64, 64))), stock("gelu").encode_image(photos((64, 64)))) <= 1e-5
    with pytest.raises(ValueError, match="hold no text tower"):
        backbone.encode_text(["a cat"])


def test_an_older_layout_fills_a_model_with_a_text_tower_of_its_own(monkeypatch, tmp_path):
    config = {"embed_dim": 40, "vision_cfg": VISION, "text_cfg": TEXT, "custom_text": True, "init_logit_bias": -10.0}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-16", config)
    state = stock("gelu").state_dict() | {"logit_scale": torch.tensor([1.0]), "logit_bias": torch.tensor([-1.0])}
    torch.save(state, tmp_path / "old.pt")
    backbone = load_backbone(f"open_clip:ViT-B-16@{tmp_path}/old.pt")
    with torch.no_grad():
        expected = stock("gelu").encode_text(open_clip.SimpleTokenizer()(["a cat"]))
    assert apart(backbone.encode_text(["a cat"]), expected) <= 1e-5


def test_a_file_that_does_not_fit_names_what_is_wrong(shrunk, tmp_path):
    state = dict(stock("gelu").state_dict())
    del state["visual.ln_post.weight"]
    state["visual.proj"] = torch.zeros(48, 7)
    state["extra"] = torch.zeros(1)
    save_file(state, tmp_path / "odd.safetensors")
    wrong = r"1 missing: visual.ln_post.weight; 1 unexpected: extra; 1 of another shape: visual.proj \(48, 7\)"
    with pytest.raises(ValueError, match=wrong):
        load_backbone(f"open_clip:ViT-B-16@{tmp_path}/odd.safetensors")


def test_damaged_weights_are_refused_by_name(shrunk, tmp_path):
    state = copy.deepcopy(stock("gelu").state_dict())
    state["visual.transformer.resblocks.1.mlp.c_fc.weight"][3, 4] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"visual.transformer.resblocks.1.mlp.c_fc.weight` has 1 NaN"):
        load_backbone(f"open_clip:ViT-B-16@{tmp_path}/nan.safetensors")


def test_a_file_of_siglip_is_normalized_as_its_published_weights_are():
    assert adapter._normalization("ViT-B-16-SigLIP") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    # ViT-L-14 has weights of two kinds: then OpenAI's.
    assert adapter._normalization("ViT-L-14")[0] == open_clip.OPENAI_DATASET_MEAN


def test_a_file_given_as_a_tag_is_shown_the_sign(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"open_clip:ViT-B-16@.*w\.pt"):
        load_backbone(f"open_clip:ViT-B-16/{tmp_path}/w.pt")
