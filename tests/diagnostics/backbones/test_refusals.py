"""Every refusal of a model says the true reason and what is nearest to it."""

import json
import re

import pytest
import timm
import torch

from diagnostics.backbones import load_backbone
from diagnostics.backbones.timm_reasons import REASONS
from diagnostics.backbones.timm_tower import TimmTower

SHRINKS = "its grid of tokens shrinks between stages"
KINDS = {
    "samvit_base_patch16": "attend within windows",
    "swin_tiny_patch4_window7_224": "attend within windows.*shrinks between stages",
    "hiera_tiny_224": SHRINKS,
    "pit_ti_224": SHRINKS,
    "levit_128s": SHRINKS,
    "pvt_v2_b0": SHRINKS,
    "resnet18": "convolutional network",
    "efficientnet_b0": "it has no attention",
    "mixer_s32_224": "it has no attention",
    "xcit_nano_12_p16_224": "attention is among channels",
    "cait_xxs24_224": "not all layers have it",
    "convit_tiny": "mixes two softmaxes",
    "qwen3_vit_88m": "encoder of a language model",
    "deepseek_vit_412m": "encoder of a language model",
}


@pytest.mark.parametrize("name", KINDS)
def test_a_model_of_timm_that_can_not_run_says_why_and_what_is_nearest(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    with pytest.raises(ValueError, match=rf"`{name}` can't run: .*{KINDS[name]}.*nearest to it is `timm:[\w.]+`"):
        TimmTower(model, name)


@pytest.mark.parametrize("name", sorted({nearest for _, nearest in REASONS.values()}))
def test_what_is_nearest_is_a_name_that_runs(name):
    architecture, _, tag = name.partition(".")
    with torch.device("meta"):
        TimmTower(timm.create_model(architecture), name)
    assert not tag or name in timm.models.get_arch_pretrained_cfgs(architecture)


@pytest.mark.parametrize(
    "spec, reason",
    [
        ("RN50/openai", "an image tower `ModifiedResNet`, a convolutional network, which has no tokens"),
        ("convnext_base/laion400m_s13b_b51k", "it is a convolutional network.*With a text tower: "),
        ("MobileCLIP-S1/datacompdr", "shrinks between stages.*With a text tower: "),
    ],
)
def test_a_model_of_open_clip_that_can_not_run_leads_to_another_with_texts(spec, reason):
    with pytest.raises(ValueError, match=rf"{reason}.*Use a plain ViT, for example `open_clip:"):
        load_backbone(f"open_clip:{spec}")


@pytest.mark.parametrize("kind", ["swin", "resnet", "sam", "qwen2_vl", "llava", "bert"])
def test_a_folder_of_transformers_that_can_not_run_says_why_and_what_does(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(ValueError, match=rf"its model_type is `{kind}`: .{{20,}}these run: clip,") as error:
        load_backbone(f"local-dir:{tmp_path}")
    assert ("not known here" in str(error.value)) == (kind == "bert")
    assert not re.search(r"\n", str(error.value))
