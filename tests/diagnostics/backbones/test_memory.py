"""A model in memory is taken as it is: the same numbers, the same weights, and nothing of the object changed."""

import copy

import numpy as np
import open_clip
import pytest
import timm
import torch
from torch import nn

from diagnostics.backbones import load_backbone, loads_anywhere
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.backbones.memory import frozen_view
from diagnostics.backbones.tiny import randomize
from diagnostics.studies.probe import probe

CLIP = {
    "embed_dim": 40,
    "vision_cfg": {"layers": 2, "width": 48, "head_width": 24, "patch_size": 16, "image_size": 64},
    "text_cfg": {"layers": 1, "width": 8, "heads": 2},
}
HALF = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}


def vit(**settings):
    model = timm.create_model("test_vit", num_classes=7, dynamic_img_size=True, **settings)
    randomize(model, seed=3)
    return model


def clip(**settings):
    model = open_clip.CLIP(**CLIP, **settings)
    randomize(model, seed=4)
    return model


def images_of(rows=160, cols=160):
    return torch.randn(2, 3, rows, cols, generator=torch.Generator().manual_seed(0))


def state_of(model):
    return [
        (name, part.training, [(weight.requires_grad, weight.data_ptr()) for weight in part.parameters(recurse=False)])
        for name, part in model.named_modules()
    ]


@pytest.mark.parametrize("size", [(160, 160), (96, 208)])
def test_a_vit_of_timm_gives_its_own_numbers(size):
    model = vit()
    backbone = load_backbone(model)
    with torch.no_grad():
        stock = model.eval()(images_of(*size))
    assert (backbone(images_of(*size)) - stock).abs().max() <= 1e-5 * stock.abs().max()
    assert backbone.has_classifier
    assert backbone.class_head().shape == (7, 64)


def test_a_model_of_open_clip_gives_its_own_numbers_and_texts():
    model = clip()
    backbone = load_backbone(model, **HALF)
    with torch.no_grad():
        images = model.eval().encode_image(images_of(64, 64))
        texts = model.encode_text(open_clip.SimpleTokenizer()(["a cat", "a dog"]))
    assert (backbone(images_of(64, 64)) - images).abs().max() <= 1e-5
    assert (backbone.encode_text(["a cat", "a dog"]) - texts).abs().max() <= 1e-5
    assert (backbone.mean, backbone.std) == (HALF["mean"], HALF["std"])


def test_an_image_tower_of_open_clip_works_without_texts():
    model = clip()
    backbone = load_backbone(model.visual, **HALF)
    with torch.no_grad():
        assert (backbone(images_of(64, 64)) - model.eval().visual(images_of(64, 64))).abs().max() <= 1e-5
    assert not backbone.has_text


def test_a_sigmoid_model_with_a_tower_of_timm_is_taken_with_its_own_tokenizer():
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
    text = {"layers": 1, "width": 8, "heads": 2, "vocab_size": 99, "context_length": 5}
    model = open_clip.CustomTextCLIP(16, vision, text, init_logit_bias=-10.0)
    backbone = load_backbone(model, **HALF)
    with torch.no_grad():
        stock = model.eval().encode_image(images_of())
    assert (backbone(images_of()) - stock).abs().max() <= 1e-5 * stock.abs().max()
    with pytest.raises(ValueError, match=r"tower of 99 words does not say which tokenizer.*tokenizer="):
        backbone.encode_text(["a"])
    named = load_backbone(model, **HALF, tokenizer=lambda texts, **_: torch.full((len(texts), 5), 7))
    with torch.no_grad():
        stock = model.encode_text(torch.full((1, 5), 7))
    assert (named.encode_text(["a"]) - stock).abs().max() <= 1e-5


@pytest.mark.parametrize("make", [vit, clip])
def test_nothing_of_the_object_changes_and_no_weight_is_copied(make):
    model = make().train()
    next(model.parameters()).requires_grad_(False)
    state, numbers = state_of(model), copy.deepcopy(model.state_dict())
    backbone = load_backbone(model, **HALF)
    backbone(images_of(*backbone.native_size))
    assert state_of(model) == state
    assert all(torch.equal(value, numbers[name]) for name, value in model.state_dict().items())
    ours = dict(backbone.model.named_parameters())
    assert all(ours[name].data_ptr() == weight.data_ptr() for name, weight in model.named_parameters())
    assert not any(weight.requires_grad for weight in ours.values())
    assert not any(part.training for part in backbone.model.modules())


def test_in_another_precision_it_is_a_copy():
    model = vit()
    backbone = load_backbone(model, precision="bf16")
    assert backbone.dtype == torch.bfloat16
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_stays_in_its_own_precision(dtype):
    model = vit().to(dtype)
    backbone = load_backbone(model)
    assert backbone.dtype == dtype
    with torch.no_grad():
        stock = model.eval()(images_of().to(dtype)).float()
    assert (backbone(images_of()).float() - stock).abs().max() <= 0.02 * stock.abs().max()


def test_the_spec_names_the_weights_as_they_are():
    model = vit()
    backbone = load_backbone(model)
    assert backbone.spec == f"memory:test_vit@{fingerprint(model)}"
    assert fingerprint(backbone.model) == fingerprint(model)
    with torch.no_grad():
        model.norm.bias += 1
    changed = load_backbone(model, name="tuned/v2")
    assert changed.spec == f"memory:tuned/v2@{fingerprint(model)}"
    assert changed.spec.partition("@")[2] != backbone.spec.partition("@")[2]
    with pytest.raises(ValueError, match="`name` should be letters"):
        load_backbone(model, name="a b")


def test_wrappers_of_training_are_taken_off():
    model = vit()
    assert load_backbone(nn.DataParallel(model)).spec == load_backbone(model).spec
    assert load_backbone(torch.compile(model)).spec == load_backbone(model).spec


def test_tied_weights_stay_tied_and_parts_that_occur_twice_stay_one():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    model.append(model[0])
    view = frozen_view(model)
    assert view[0].weight is view[1].weight
    assert view[2] is view[0]
    assert not view[0].weight.requires_grad
    assert model[0].weight.requires_grad


def test_hooks_are_left_to_the_object_and_noted():
    model = vit()
    called = []
    model.blocks[0].norm1.register_forward_hook(lambda *_: called.append(1))
    backbone = load_backbone(model)
    backbone(images_of())
    assert called == []
    assert backbone.note == "1 forward hooks of the model in memory are not run"
    model(images_of())
    assert called == [1]


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = vit()


def test_an_unknown_class_names_what_is_accepted_and_the_part_that_is():
    with pytest.raises(ValueError, match=r"class `torch\.nn\.modules\.linear\.Linear` is not known.*Accepted: a ViT"):
        load_backbone(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"Holder` is not known here\. It holds one .*: module\.encoder\. Accepted"):
        load_backbone(Holder())
    with pytest.raises(ValueError, match="a spec, or a model in memory; got PosixPath"):
        load_backbone(__import__("pathlib").Path("x"))


def test_a_model_of_timm_that_the_blocks_cannot_run_is_refused_by_name():
    with pytest.raises(ValueError, match="can't run: its type is `ResNet`"):
        load_backbone(timm.create_model("test_resnet"))


def damaged(how):
    model = vit()
    if how == "replaced":
        model.norm.forward = lambda x: x
    elif how == "whole numbers":
        model.norm.weight = nn.Parameter(model.norm.weight.to(torch.int8), requires_grad=False)
    elif how == "two precisions":
        model.norm.bfloat16()
    elif how == "two devices":
        model.norm.to("meta")
    elif how == "adapters":
        model.blocks[0].attn.qkv.__class__ = type("Linear", (nn.Linear,), {"__module__": "peft.tuners.lora.layer"})
    return model.to("meta") if how == "meta" else model


@pytest.mark.parametrize(
    "how, reason",
    [
        ("replaced", r"forward of `norm` was replaced.*unwrap_model"),
        ("whole numbers", r"fp32, bf16 or fp16; norm\.weight are torch\.int8"),
        ("two precisions", r"several precisions: torch\.bfloat16, torch\.float32; bring it to one"),
        ("two devices", r"several devices: cpu, meta; move it"),
        ("adapters", r"`blocks\.0\.attn\.qkv` holds adapters .*merge_and_unload"),
        ("meta", "on the device `meta`"),
    ],
)
def test_what_our_forward_would_not_follow_is_refused_by_its_reason(how, reason):
    with pytest.raises(ValueError, match=reason):
        load_backbone(damaged(how))


def test_images_need_a_normalization_where_the_object_states_none():
    with pytest.raises(ValueError, match=r"does not say how its images are normalized.*mean="):
        load_backbone(clip())


def test_a_spec_brings_its_own_and_no_name_loads_a_model_of_another_memory():
    with pytest.raises(ValueError, match="`mean` goes with a model in memory"):
        load_backbone("tiny", mean=(0.5,) * 3)
    with pytest.raises(ValueError, match=r"`memory:x@1` was a model in the memory of another run"):
        load_backbone("memory:x@1")
    assert loads_anywhere("tiny:registers=1")
    assert not loads_anywhere("memory:x@1")
    assert not loads_anywhere("mine")


def test_a_store_refuses_the_model_after_more_training(tmp_path):
    model = vit()
    images = [np.zeros((160, 160, 3), np.uint8)]
    probe(load_backbone(model, name="mine"), images, measures=["norms"], layers=[1], out=tmp_path / "run.zarr")
    with torch.no_grad():
        model.norm.bias += 1
    with pytest.raises(ValueError, match="weights"):
        probe(load_backbone(model, name="mine"), images, measures=["norms"], layers=[1], out=tmp_path / "run.zarr")
