"""Models in transformers' layout give the numbers of transformers' own forward, at their size and on another grid."""

import json

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from diagnostics.backbones import load_backbone
from diagnostics.backbones.fingerprint import fingerprint

transformers = pytest.importorskip("transformers", reason="parity with transformers' own forward needs transformers")

SMALL = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SMALL, "image_size": 32, "patch_size": 8}
DINO = {name: value for name, value in VISION.items() if name != "intermediate_size"} | {"mlp_ratio": 2}
TEXT = {
    **SMALL,
    "vocab_size": 99,
    "max_position_embeddings": 16,
    "bos_token_id": 1,
    "eos_token_id": 98,
    "pad_token_id": 98,
}
LABELS = {"num_labels": 3}

BEIT = {"use_relative_position_bias": True, "layer_scale_init_value": 0.1, "use_mean_pooling": True}
BEIT_SHARED = {
    "use_shared_relative_position_bias": True,
    "use_absolute_position_embeddings": True,
    "layer_scale_init_value": 0.0,
    "use_mean_pooling": False,
}


def pair_of(name, **extra):
    kind, config = getattr(transformers, f"{name}Model"), getattr(transformers, f"{name}Config")
    vision = {**VISION, **extra.pop("vision", {})}
    for key in extra.pop("without", ()):
        del vision[key]
    return kind(config(vision_config=vision, text_config=TEXT, **extra))


def model_of(name, kind, settings):
    return getattr(transformers, f"{name}{kind}")(getattr(transformers, f"{name}Config")(**settings))


# Model, and which of its outputs is the image's feature.
MODELS = {
    "clip": lambda: pair_of("CLIP", projection_dim=20),
    "clip-gelu": lambda: pair_of("CLIP", projection_dim=20, vision={"hidden_act": "gelu"}),
    "metaclip-2": lambda: pair_of("MetaClip2", projection_dim=20),
    "clip-image": lambda: transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(**VISION, projection_dim=20)
    ),
    "clip-image-bare": lambda: transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION)),
    "siglip": lambda: pair_of("Siglip"),
    "siglip-image": lambda: transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION)),
    "siglip2": lambda: pair_of("Siglip2", vision={"num_patches": 16}, without=("image_size",)),
    "dinov2": lambda: model_of("Dinov2", "Model", DINO),
    "dinov2-gated": lambda: model_of("Dinov2", "Model", {**DINO, "use_swiglu_ffn": True}),
    "dinov2-registers": lambda: model_of("Dinov2WithRegisters", "Model", {**DINO, "num_register_tokens": 3}),
    "dinov3": lambda: model_of("DINOv3ViT", "Model", {**VISION, "num_register_tokens": 4}),
    "dinov3-gated": lambda: model_of("DINOv3ViT", "Model", {**VISION, "use_gated_mlp": True, "key_bias": True}),
    "vit": lambda: model_of("ViT", "ForImageClassification", {**VISION, **LABELS}),
    "vit-bare": lambda: model_of("ViT", "Model", VISION),
    "beit": lambda: model_of("Beit", "ForImageClassification", {**VISION, **LABELS, **BEIT}),
    "beit-shared": lambda: model_of("Beit", "Model", {**VISION, **BEIT_SHARED}),
    "deit": lambda: model_of("DeiT", "ForImageClassificationWithTeacher", {**VISION, **LABELS}),
    "deit-class": lambda: model_of("DeiT", "ForImageClassification", {**VISION, **LABELS}),
}


def randomized(model):
    """Every weight drawn, so that none is a start value without effect: gains near 1, all else spread by 0.2."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = 0.2 * torch.randn(weight.shape, generator=generator)
            gain = name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "lambda1"))
            weight.copy_(1 + noise if gain or ("layernorm" in name and name.endswith("weight")) else noise)
    return model.eval()


@pytest.fixture(scope="module")
def models():
    return {}


@pytest.fixture
def model(request, models):
    name = request.param
    if name not in models:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            models[name] = randomized(MODELS[name]())
    return models[name]


def stock(model, images):
    """transformers' own feature of the image: (B, E)."""
    kind = type(model).__name__
    with torch.no_grad():
        if kind.startswith("Siglip2"):
            return siglip2_feature(model, images)
        arguments = {} if kind.startswith(("Dinov2", "DINOv3", "Beit")) else {"interpolate_pos_encoding": True}
        if hasattr(model, "get_image_features"):
            output = model.get_image_features(pixel_values=images, **arguments)
            return getattr(output, "pooler_output", output)
        output = model(pixel_values=images, **arguments)
    for name in ("logits", "image_embeds"):
        if getattr(output, name, None) is not None:
            return getattr(output, name)
    return output.last_hidden_state[:, 0] if kind == "ViTModel" else output.pooler_output


def siglip2_feature(model, images):
    patch = 8
    rows, cols = images.shape[2] // patch, images.shape[3] // patch
    pixels = (
        images.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 4, 5, 1).reshape(2, rows * cols, -1)
    )
    mask = torch.ones(2, rows * cols, dtype=torch.long)
    output = model.get_image_features(
        pixel_values=pixels, pixel_attention_mask=mask, spatial_shapes=torch.tensor([[rows, cols]] * 2)
    )
    return getattr(output, "pooler_output", output)


def size_for(model, size):
    """The size, a BEiT's native one: on other grids timm and transformers stretch relative positions in two ways."""
    return (32, 32) if model.config.model_type == "beit" else size


def images_of(rows, cols):
    return torch.randn(2, 3, rows, cols, generator=torch.Generator().manual_seed(1))


def saved(model, folder, **preprocessor):
    model.save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return load_backbone(f"local-dir:{folder}")


def test_every_family_has_a_model_here():
    from diagnostics.backbones.transformers_tower import FAMILIES

    kinds = {MODELS[name]().config.model_type for name in MODELS}
    image_towers = {"metaclip_2_vision_model", "siglip2_vision_model"}
    assert FAMILIES.keys() - image_towers == kinds


@pytest.mark.parametrize("model", MODELS, indirect=True)
@pytest.mark.parametrize("size", [(32, 32), (24, 56)])
def test_a_folder_gives_transformers_own_numbers(model, size, tmp_path):
    size = size_for(model, size)
    backbone = saved(model, tmp_path)
    expected = stock(model, images_of(*size))
    assert expected.std() > 0.01
    assert (backbone(images_of(*size)) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("model", MODELS, indirect=True)
def test_a_model_in_memory_gives_its_own_numbers_over_its_own_weights(model):
    model.train()
    before = {name: (weight.data_ptr(), weight.requires_grad) for name, weight in model.named_parameters()}
    backbone = load_backbone(model, tokenizer=lambda texts: texts)
    assert model.training
    assert before == {name: (weight.data_ptr(), weight.requires_grad) for name, weight in model.named_parameters()}
    model.eval()
    size = size_for(model, (24, 56))
    expected = stock(model, images_of(*size))
    assert (backbone(images_of(*size)) - expected).abs().max() <= 1e-5 * expected.abs().max()
    held = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    copied = [
        name for name, weight in backbone.model.named_parameters() if weight.untyped_storage().data_ptr() not in held
    ]
    # With registers the class token and its position are one weight here.
    assert all(name.endswith(("cls_token", "pos_embed")) for name in copied)
    assert backbone.spec == f"memory:{type(model).__name__}@{fingerprint(backbone.model)}"


@pytest.mark.parametrize("model", ["clip", "metaclip-2", "siglip", "siglip2"], indirect=True)
def test_texts_are_those_of_transformers(model, tmp_path):
    tokens = torch.tensor([[1, 5, 7, 98, *[98] * 12], [1, 9, 98, *[98] * 13]])
    backbone = saved(model, tmp_path)
    with torch.no_grad():
        expected = model.get_text_features(input_ids=tokens)
    expected = getattr(expected, "pooler_output", expected)
    backbone.text.make_tokenizer = lambda: lambda texts: tokens[: len(texts)]
    before = fingerprint(backbone.model)
    assert (backbone.encode_text(["a", "b"]) - expected).abs().max() <= 1e-5
    assert fingerprint(backbone.model) == before
    assert backbone.logit_scale == pytest.approx(float(model.logit_scale.exp()))
    held = load_backbone(model, tokenizer=lambda texts: tokens[: len(texts)])
    assert (held.encode_text(["a", "b"]) - expected).abs().max() <= 1e-5
    bias = getattr(model, "logit_bias", None)
    assert held.logit_bias == backbone.logit_bias == (None if bias is None else pytest.approx(float(bias)))
    assert backbone.to(dtype=torch.bfloat16).encode_text(["a", "b"]).dtype == torch.bfloat16


@pytest.fixture
def words():
    """A tokenizer of three words, as a folder has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({"<s>": 1, "a": 5, "cat": 7, "</s>": 98}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 98)]
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="</s>", eos_token="</s>")


@pytest.mark.parametrize("model", ["clip"], indirect=True)
def test_the_tokenizer_comes_from_the_folder(model, words, tmp_path):
    words.save_pretrained(tmp_path)
    backbone = saved(model, tmp_path)
    assert backbone.text_tokens(["a cat"]) == [[1, 5, 7, 98, *[98] * 12]]
    assert backbone.cut_texts(["a cat", "cat " * 40]) == [False, True]
    assert load_backbone(model, tokenizer=words).text_tokens(["a cat"]) == [[1, 5, 7, 98, *[98] * 12]]


@pytest.mark.parametrize("model", ["clip"], indirect=True)
def test_a_folder_without_a_tokenizer_and_a_machine_without_transformers_say_so(model, tmp_path, monkeypatch):
    backbone = saved(model, tmp_path)
    with pytest.raises(ValueError, match=r"the tokenizer of `local-dir:.*` could not be made"):
        backbone.encode_text(["a cat"])
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    without = load_backbone(f"local-dir:{tmp_path}")
    assert without(images_of(32, 32)).shape == (2, 20)
    with pytest.raises(ValueError, match=r"texts need the library transformers: pip install"):
        without.encode_text(["a cat"])


@pytest.mark.parametrize("model", ["vit"], indirect=True)
def test_settings_of_the_folder_are_read(model, tmp_path):
    backbone = saved(model, tmp_path, image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert saved(model, tmp_path / "plain").mean == (0.5, 0.5, 0.5)
    raw = saved(model, tmp_path / "raw", do_normalize=False)
    assert (raw.mean, raw.std) == ((0, 0, 0), (1, 1, 1))
    assert backbone.class_head().shape == (3, 24)
    assert backbone.native_size == (32, 32)


@pytest.mark.parametrize("model", ["vit"], indirect=True)
def test_weights_may_be_in_several_files_in_half_precision_or_another_file(model, tmp_path):
    expected = saved(model, tmp_path)(images_of(32, 32))
    weights = load_file(tmp_path / "model.safetensors")
    save_file({name: weight.half() for name, weight in weights.items()}, tmp_path / "half.safetensors")
    half = load_backbone(f"local-dir:{tmp_path / 'half.safetensors'}")
    assert half.dtype == torch.float32
    assert 0 < (half(images_of(32, 32)) - expected).abs().max() < 0.05 * expected.abs().max()
    (tmp_path / "model.safetensors").unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[:20], "b.safetensors": names[20:]}
    for file, inside in parts.items():
        save_file({name: weights[name] for name in inside}, tmp_path / file)
    index = {"weight_map": {name: file for file, inside in parts.items() for name in inside}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(load_backbone(f"local-dir:{tmp_path}")(images_of(32, 32)), expected)
    index["weight_map"][names[0]] = "../a.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"should name files beside it; it names `\.\./a\.safetensors`"):
        load_backbone(f"local-dir:{tmp_path}")


def changed(folder, **settings):
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


@pytest.mark.parametrize("model", ["vit"], indirect=True)
def test_what_can_not_run_is_refused_with_the_reason(model, tmp_path):
    saved(model, tmp_path)
    with pytest.raises(ValueError, match=r"its model_type is `swin`: attention is windowed.*these run: clip,"):
        load_backbone(changed(tmp_path, model_type="swin"))
    with pytest.raises(ValueError, match=r"`dinov4_vit`: its forward pass is not known.*Nearest: `dinov3_vit`"):
        load_backbone(changed(tmp_path, model_type="dinov4_vit"))
    with pytest.raises(ValueError, match=r"no activation of transformers `mish`"):
        load_backbone(changed(tmp_path, model_type="vit", hidden_act="mish"))
    with pytest.raises(ValueError, match=r"should have 1 \+ 8x8 positions; it has 17|of another shape: pos_embed"):
        load_backbone(changed(tmp_path, hidden_act="gelu", image_size=64))


@pytest.mark.parametrize("model", ["vit"], indirect=True)
def test_unknown_and_missing_weights_are_named(model, tmp_path):
    saved(model, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "decoder.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"weights that are not known in a `vit`: decoder\.weight"):
        load_backbone(f"local-dir:{tmp_path}")
    del weights["vit.embeddings.cls_token"], weights["vit.layernorm.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"do not fit|holds no image tower"):
        load_backbone(f"local-dir:{tmp_path}")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no weights: .* should have model\.safetensors or pytorch_model\.bin"):
        load_backbone(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("model", ["vit"], indirect=True)
def test_a_bare_file_under_another_family_leads_to_its_folder(model, tmp_path):
    saved(model, tmp_path)
    file = tmp_path / "model.safetensors"
    for spec in (f"timm:test_vit@{file}", f"open_clip:ViT-S-32-alt@{file}", f"openai:{file}"):
        with pytest.raises(ValueError, match=r"in transformers' layout: put config\.json.*local-dir:FOLDER"):
            load_backbone(spec)


@pytest.mark.parametrize("model", ["siglip", "dinov2"], indirect=True)
def test_a_repository_of_the_hub_is_read_like_a_folder(model, tmp_path, monkeypatch):
    commit = "7" * 40
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--org--name"
    model.save_pretrained(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    backbone = load_backbone("hf-hub:org/name")
    expected = stock(model, images_of(32, 32))
    assert (backbone(images_of(32, 32)) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert (backbone.spec, backbone.revision) == ("hf-hub:org/name", commit)


def test_what_is_left_out_is_noted(tmp_path):
    model = randomized(model_of("Dinov2", "ForImageClassification", {**DINO, **LABELS}))
    backbone = saved(model, tmp_path)
    assert backbone.note == "the classifier, which reads two tokens side by side, is left out"
    model = randomized(transformers.ViTModel(transformers.ViTConfig(**VISION)))
    assert saved(model, tmp_path / "vit").note == "the pooler, a map behind the class token, is left out"
