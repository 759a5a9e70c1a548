"""Checkpoints as training scripts leave them: averaged weights beside raw ones, prefixes, adapters, other sizes."""

import argparse
from pathlib import Path

import numpy as np
import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import load_checkpoint

from diagnostics.backbones import load_backbone
from diagnostics.backbones.checkpoint import joined_notes
from diagnostics.backbones.tiny import randomize
from diagnostics.backbones.weights import read_checkpoint, read_weights

CLIP = "ViT-S-32-alt"


def state(value, *names):
    return {name: torch.full((2,), float(value)) for name in names or ("cls_token", "head.weight")}


def saved(content, path):
    torch.save(content, path)
    return path


def number(path):
    weights, note = read_checkpoint(path)
    return float(next(iter(weights.values()))[0]), note


@pytest.mark.parametrize(
    "raw, averaged",
    [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("student", "teacher"), ("model_state", "ema")],
)
def test_averaged_weights_are_taken_as_timm_does_and_either_can_be_named(tmp_path, raw, averaged):
    path = saved(
        {"epoch": 3, raw: state(1), averaged: state(2), "optimizer": {"state": {0: state(9)}}}, tmp_path / "w.pt"
    )
    value, note = number(path)
    assert value == 2
    assert note == f"averaged weights (EMA) taken from the entry `{averaged}`; the file also has `{raw}` (#model)"
    assert number(f"{path}#ema")[0] == 2
    value, note = number(f"{path}#model")
    assert value == 1
    assert note == f"weights taken from the entry `{raw}`; the file also has `{averaged}` (#ema)"
    assert number(f"{path}#{raw}")[0] == 1
    with pytest.raises(ValueError, match=r"has no entry for `#best`; it holds .*`#ema` takes averaged"):
        read_checkpoint(f"{path}#best")


def test_entries_lie_within_each_other(tmp_path):
    path = saved({"model": {"state_dict": state(1), "state_dict_ema": state(2)}}, tmp_path / "w.pt")
    assert number(path)[0] == 2
    assert number(f"{path}#ema")[0] == 2
    assert number(f"{path}#state_dict")[0] == 1


@pytest.mark.parametrize("entry", ["state_dict", "model", "model_state", "model_state_dict", "module"])
def test_a_single_entry_is_taken_without_a_word(tmp_path, entry):
    assert number(saved({entry: state(4), "args": {"lr": 1}}, tmp_path / "w.pt")) == (4, "")


def test_asking_for_averaged_weights_that_are_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no entry for `#ema`; it holds cls_token, head\.weight"):
        read_checkpoint(f"{saved({'model': state(1)}, tmp_path / 'w.pt')}#ema")


def test_a_file_may_have_the_sign_in_its_name(tmp_path):
    assert number(saved(state(3), tmp_path / "run#ema.pt"))[0] == 3
    assert number(f"{saved({'model': state(3)}, tmp_path / 'run#2.pt')}#model")[0] == 3


@pytest.mark.parametrize(
    "before, after",
    [
        ("module.", ""),
        ("_orig_mod.", ""),
        ("model.", ""),
        ("module._orig_mod.", ""),
        ("_orig_mod.module.", ""),
        ("model.module.", ""),
        ("blocks.0._orig_mod.", "blocks.0."),
        ("_fsdp_wrapped_module.blocks.0._checkpoint_wrapped_module.", "blocks.0."),
    ],
)
def test_what_training_puts_before_names_is_dropped(tmp_path, before, after):
    weights = read_weights(saved(state(1, f"{before}a.weight", f"{before}b"), tmp_path / "w.pt"))
    assert weights.keys() == {f"{after}a.weight", f"{after}b"}


def test_a_prefix_of_some_names_only_is_a_name(tmp_path):
    assert "model.a" in read_weights(saved(state(1, "model.a", "b"), tmp_path / "w.pt"))


def test_the_network_below_the_heads_of_training_is_taken_and_these_are_named(tmp_path):
    teacher = state(2, "backbone.cls_token", "head.mlp.weight", "head.last_layer.weight")
    weights, note = read_checkpoint(saved({"teacher": teacher}, tmp_path / "w.pt"))
    assert weights.keys() == {"cls_token"}
    assert note.endswith("`teacher`; 2 weights beside the backbone are left out: head")


def test_two_weights_of_a_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two weights of one name"):
        read_weights(saved(state(1, "_orig_mod.a", "a"), tmp_path / "w.pt"))


@pytest.mark.parametrize(
    "name",
    ["blocks.0.attn.qkv.lora_A.default.weight", "base_model.model.head.weight", "blocks.0.attn.qkv.base_layer.weight"],
)
def test_adapters_that_are_not_merged_are_refused_with_the_reason(tmp_path, name):
    with pytest.raises(ValueError, match=r"holds 1 weights of adapters \(LoRA\) that are not merged.*merge_and_unload"):
        read_weights(saved(state(1, "cls_token", name), tmp_path / "w.pt"))


def test_settings_and_scores_beside_the_weights_do_no_harm(tmp_path):
    content = {"model": state(5), "args": argparse.Namespace(lr=0.1), "best": np.float64(81.2), "epoch": np.int64(3)}
    assert number(saved(content, tmp_path / "w.pt"))[0] == 5
    with pytest.raises(ValueError, match="holds pickled objects"):
        read_weights(saved({"model": state(5), "out": Path("/tmp")}, tmp_path / "path.pt"))


def test_metadata_of_safetensors_does_no_harm(tmp_path):
    save_file(state(6), tmp_path / "w.safetensors", metadata={"format": "pt", "model_ema": "yes"})
    assert number(tmp_path / "w.safetensors") == (6, "")


def test_notes_are_joined_without_empty_ones():
    assert joined_notes("", "a", "", "b") == "a; b"


# Whole models


def vit(seed, **settings):
    model = timm.create_model("test_vit", num_classes=10, **settings).eval()
    randomize(model, seed)
    return model


def images_of(side=160):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("raw, averaged", [("state_dict", "state_dict_ema"), ("model", "model_ema")])
def test_timm_and_we_take_the_same_weights_of_a_checkpoint(tmp_path, raw, averaged):
    path = saved({raw: vit(1).state_dict(), averaged: vit(2).state_dict()}, tmp_path / "w.pth")
    theirs = vit(5)
    load_checkpoint(theirs, str(path), weights_only=True)
    with torch.no_grad():
        expected, trained = theirs(images_of()), vit(1)(images_of())
    ours = load_backbone(f"timm:test_vit@{path}")
    assert (ours(images_of()) - expected).abs().max() <= 1e-5
    assert "averaged weights (EMA)" in ours.note
    assert (load_backbone(f"timm:test_vit@{path}#model")(images_of()) - trained).abs().max() <= 1e-5


def test_a_compiled_models_checkpoint_is_read(tmp_path):
    model = vit(1)
    content = {"state_dict": {"_orig_mod." + name: value for name, value in model.state_dict().items()}}
    ours = load_backbone(f"timm:test_vit@{saved(content, tmp_path / 'w.pth')}")
    with torch.no_grad():
        assert (ours(images_of()) - model(images_of())).abs().max() <= 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(tmp_path, dtype):
    model = vit(1).to(dtype)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    ours = load_backbone(f"timm:test_vit@{tmp_path / 'w.safetensors'}")
    assert ours.dtype == torch.float32
    with torch.no_grad():
        assert (ours(images_of()) - model.float()(images_of())).abs().max() <= 1e-5


def test_a_model_fine_tuned_on_the_mean_pools_the_mean(tmp_path):
    model = vit(1, global_pool="avg")
    assert "fc_norm.weight" in model.state_dict()
    ours = load_backbone(f"timm:test_vit@{saved(model.state_dict(), tmp_path / 'w.pth')}")
    with torch.no_grad():
        assert (ours(images_of()) - model(images_of())).abs().max() <= 1e-5
    assert ours.note == "pools the mean of the patches, as the file's fc_norm says"


@pytest.fixture(scope="module")
def sigmoid_clip():
    return open_clip.create_model(CLIP, init_logit_bias=-10.0).eval()


def test_a_model_of_the_sigmoid_loss_brings_its_bias_under_any_architecture(tmp_path, sigmoid_clip):
    content = {"state_dict": {"module." + name: value for name, value in sigmoid_clip.state_dict().items()}}
    ours = load_backbone(f"open_clip:{CLIP}@{saved(content, tmp_path / 'sig.pt')}")
    assert ours.logit_bias == -10
    with torch.no_grad():
        assert (ours(images_of(224)) - sigmoid_clip.encode_image(images_of(224))).abs().max() <= 1e-5
    assert load_backbone("tiny").logit_bias is None


def test_what_an_image_tower_has_no_use_for_is_noted(tmp_path, sigmoid_clip):
    kept = {name: value for name, value in sigmoid_clip.state_dict().items() if name.startswith(("visual.", "logit_"))}
    ours = load_backbone(f"open_clip:{CLIP}@{saved(kept, tmp_path / 'image.pt')}")
    assert ours.note == "without a text tower logit_scale, logit_bias has no use"


@pytest.mark.parametrize("tower", ["plain", "timm"])
def test_a_file_of_another_image_size_keeps_its_positions(tmp_path, tower, monkeypatch):
    vision = {"layers": 1, "width": 48, "head_width": 24, "patch_size": 16, "image_size": 96}
    if tower == "timm":
        vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 96}
    text = {"layers": 1, "width": 8, "heads": 2}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text, "custom_text": tower == "timm"}
    kind = open_clip.CustomTextCLIP if tower == "timm" else open_clip.CLIP
    model = kind(16, vision_cfg=vision, text_cfg=text).eval()
    if tower == "timm":
        model.visual.set_input_size(96)
    stated = {**config, "vision_cfg": {**vision, "image_size": 160}}
    monkeypatch.setattr(open_clip, "list_models", lambda: ["mine"])
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: stated)
    monkeypatch.setattr(open_clip, "list_pretrained_tags_by_model", lambda name: [])
    ours = load_backbone(f"open_clip:mine@{saved(model.state_dict(), tmp_path / 'w.pt')}")
    assert ours.native_size == (96, 96)
    assert ours.note == "native size 96, as the file's positional embeddings are"
    with torch.no_grad():
        assert (ours(images_of(96)) - model.encode_image(images_of(96))).abs().max() <= 1e-5


# OpenAI's layout


def openai_file(tmp_path, quick_gelu, **extra):
    vision = {"layers": 1, "width": 64, "head_width": 64, "patch_size": 16, "image_size": 32}
    text = {"layers": 1, "width": 64, "heads": 1, "context_length": 77, "vocab_size": 49408}
    model = open_clip.CLIP(16, vision_cfg=vision, text_cfg=text, quick_gelu=quick_gelu, **extra).eval()
    randomize(model, seed=5)
    return model, saved(model.state_dict(), tmp_path / "w.pt")


@pytest.mark.parametrize(
    "quick_gelu, setting", [(True, ""), (True, ",activation=quick-gelu"), (False, ",activation=gelu")]
)
def test_the_activation_of_a_bare_file_can_be_named_and_is_noted_otherwise(tmp_path, quick_gelu, setting):
    model, path = openai_file(tmp_path, quick_gelu)
    ours = load_backbone(f"openai:{path}{setting}")
    with torch.no_grad():
        assert (ours(images_of(32)) - model.encode_image(images_of(32))).abs().max() <= 1e-5
    assert ("QuickGELU is assumed" in ours.note) == (not setting)


def test_an_unknown_activation_and_one_that_openais_own_files_do_not_have_are_refused(tmp_path):
    _, path = openai_file(tmp_path, True)
    with pytest.raises(ValueError, match="activation `relu`"):
        load_backbone(f"openai:{path},activation=relu")
    marks = {
        "input_resolution": torch.tensor(32),
        "context_length": torch.tensor(77),
        "vocab_size": torch.tensor(49408),
    }
    marked = saved(torch.load(path) | marks, tmp_path / "own.pt")
    assert load_backbone(f"openai:{marked}").note == ""
    with pytest.raises(ValueError, match="OpenAI's own files, trained with QuickGELU"):
        load_backbone(f"openai:{marked},activation=gelu")


def test_a_bare_file_of_the_sigmoid_loss_keeps_its_bias(tmp_path):
    _, path = openai_file(tmp_path, True, init_logit_bias=-3.0)
    assert load_backbone(f"openai:{path}").logit_bias == pytest.approx(float(torch.load(path)["logit_bias"]))
