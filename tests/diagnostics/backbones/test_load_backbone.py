import subprocess
import sys

import pytest
import torch

from diagnostics.backbones import BACKBONES, Backbone, load_backbone
from diagnostics.registry import UnknownName


def test_the_family_stands_before_the_first_colon(monkeypatch):
    arguments = []
    monkeypatch.setitem(BACKBONES, "mine", lambda argument: arguments.append(argument) or load_backbone("tiny"))
    load_backbone(" mine:a:b@c:d ")
    load_backbone("mine")
    assert arguments == ["a:b@c:d", ""]


def test_every_family_says_what_it_is_in_one_line():
    described = BACKBONES.describe()
    assert {"pocket", "tiny", "open_clip", "timm", "hf-hub", "openai"} <= described.keys()
    assert all(20 < len(line) < 120 for line in described.values())


def test_an_unknown_family_brings_the_near_one():
    with pytest.raises(UnknownName, match=r"`openclip`. Did you mean `open_clip`"):
        load_backbone("openclip:ViT-B-16/openai")


@pytest.mark.parametrize("device, cards", [("cuda", 0), ("cuda:1", 1), (torch.device("cuda", 3), 2)])
def test_a_missing_card_is_reported_before_the_weights_are_read(monkeypatch, device, cards):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setitem(BACKBONES, "tiny", lambda _: pytest.fail("read"))
    with pytest.raises(ValueError, match=f"`device` is `{device}`, but torch sees {cards} CUDA devices"):
        load_backbone("tiny", device=device)


@pytest.mark.parametrize("device", ["gpu", "xpu", "meta", 1.5])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(ValueError, match=rf"`device` should be cpu, cuda, .* got `{device}`"):
        load_backbone("tiny", device=device)


def test_loading_leaves_the_global_generator_as_it_was(monkeypatch):
    def drawing(argument):
        torch.nn.Linear(2, 2)  # draws its weights, as the stock constructors do
        return BACKBONES["tiny"](argument)

    monkeypatch.setitem(BACKBONES, "mine", drawing)
    before = torch.random.get_rng_state()
    load_backbone("mine")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("spec", ["tiny", "tiny:registers=4"])
def test_bf16_is_near_fp32(spec, images):
    half, full = load_backbone(spec, precision="bf16"), load_backbone(spec)
    assert half.dtype == torch.bfloat16
    output, exact = half(images).float(), full(images)
    assert 0 < (output - exact).abs().mean() < 0.1 * exact.std()


def test_text_features_work_in_bf16():
    features = load_backbone("tiny", precision="bf16").encode_text(["a cat"])
    assert features.dtype == torch.bfloat16
    assert torch.isfinite(features).all()


def test_an_unknown_precision_or_interpolation_is_refused():
    with pytest.raises(UnknownName, match="precision `fp16`"):
        load_backbone("tiny", precision="fp16")
    with pytest.raises(UnknownName, match="Did you mean `bicubic`"):
        load_backbone("tiny", positions="bicubik")


def test_positions_are_the_familys_unless_named(images):
    default, offset = load_backbone("tiny"), load_backbone("tiny", positions="bicubic-offset")
    assert (default.positions, offset.positions) == ("bicubic-antialiased", "bicubic-offset")
    assert not torch.equal(default.embed(images), offset.embed(images))
    assert torch.equal(default.embed(images, positions="bicubic-offset"), offset.embed(images))


def test_a_backbone_says_what_it_is(tiny):
    assert isinstance(tiny, Backbone)
    assert repr(tiny) == (
        "OpenClipBackbone('tiny': 12 blocks, width 48, 2 heads, patch 16x16, native 64x64, 1 prefix tokens)"
    )


def test_importing_the_package_imports_no_model_library():
    code = "import diagnostics.backbones, sys; print([name for name in ('open_clip', 'timm') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "spec, text, classifier",
    [
        ("pocket", True, False),
        ("tiny", True, False),
        ("tiny:registers=2", False, True),
        ("tiny:class_token=false", False, True),
    ],
)
def test_a_backbone_declares_its_text_tower_and_its_classifier(spec, text, classifier):
    backbone = load_backbone(spec)
    assert (backbone.has_text, backbone.has_classifier) == (text, classifier)
    assert (backbone.logit_scale is not None) == text
    for present, call in ((text, lambda: backbone.encode_text(["a zebra"])), (classifier, backbone.class_head)):
        if present:
            assert len(call()) >= 1
        else:
            with pytest.raises(ValueError, match="has no"):
                call()


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("vit_tiny_patch16_224.augreg_in21k", "timm:vit_tiny_patch16_224.augreg_in21k"),
        ("ViT-B-16", "open_clip:ViT-B-16/TAG"),
        ("ViT-B-32/openai", "open_clip:ViT-B-32/openai"),
    ],
)
def test_a_name_without_its_family_is_answered_with_the_whole(name, full):
    with pytest.raises(UnknownName, match=f"Did you mean `{full}`") as raised:
        load_backbone(name)
    known = str(raised.value).partition("Known: ")[2]
    assert "timm" in known
    assert full not in known
