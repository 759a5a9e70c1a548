import time

import pytest
import torch

from diagnostics.backbones import load_backbone
from diagnostics.backbones.clip_model import PlainClip, QuickGELU
from diagnostics.backbones.tiny import CLASSES
from diagnostics.layout import Grid
from diagnostics.registry import UnknownName
from diagnostics.taps import TAPS, Recorder

SPECS = ["tiny", "tiny:class_token=false", "tiny:registers=4", "tiny:class_token=false,registers=3"]


def weights(spec):
    return load_backbone(spec).model.state_dict()


def test_tiny_is_a_clip_of_twelve_blocks(tiny):
    assert (tiny.depth, tiny.width, tiny.heads, tiny.patch_size, tiny.native_size) == (12, 48, 2, (16, 16), (64, 64))
    assert (tiny.prefix, tiny.class_index) == (1, 0)
    assert isinstance(tiny.model, PlainClip)
    assert any(isinstance(part, QuickGELU) for part in tiny.model.visual.modules())
    assert tiny.encode_text(["a cat", "a dog"]).shape == (2, tiny.project(torch.zeros(1, 17, 48)).shape[-1])


@pytest.mark.parametrize(
    "spec, prefix, class_index", list(zip(SPECS, [1, 0, 5, 3], [0, None, 0, None], strict=True)), ids=SPECS
)
def test_prefix_tokens_are_as_asked(spec, prefix, class_index, images):
    backbone, recorder = load_backbone(spec), Recorder(*TAPS)
    layout = backbone.layout(images)
    assert (layout.prefix, layout.class_index, layout.grid) == (prefix, class_index, Grid(4, 6))
    tokens = backbone.trunk(images, tap=recorder)
    assert tokens.shape == (2, prefix + 24, 48)
    assert recorder["attention", 12].shape == (2, 2, prefix + 24, prefix + 24)
    assert backbone.spec == spec


@pytest.mark.parametrize("spec", SPECS)
def test_the_output_is_the_stock_one(spec):
    backbone = load_backbone(spec)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        expected = backbone.model.encode_image(images) if spec == "tiny" else backbone.model(images)
    assert (backbone(images) - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("spec", SPECS[1:])
def test_without_a_text_tower_there_is_a_classifier(spec):
    backbone = load_backbone(spec)
    assert backbone.class_head().shape == (CLASSES, 48)
    with pytest.raises(ValueError, match="no text tower"):
        backbone.encode_text(["a cat"])


@pytest.mark.parametrize("spec", ["tiny", "tiny:registers=4"])
def test_weights_depend_on_the_seed_alone_and_leave_the_global_generator_be(spec):
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = weights(spec)
    name = next(iter(first))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    again = weights(spec)
    assert all(torch.equal(again[name], value) for name, value in first.items())
    assert not torch.equal(weights(f"{spec}{',' if ':' in spec else ':'}seed=1")[name], first[name])


@pytest.mark.parametrize("spec", SPECS)
def test_attention_is_neither_uniform_nor_one_hot(spec, images):
    backbone, recorder = load_backbone(spec), Recorder("attention")
    backbone.trunk(images, tap=recorder)
    weights = recorder.recording.stack("attention")
    entropy = torch.special.entr(weights).sum(-1).mean(dim=(1, 2, 3)) / torch.tensor(weights.shape[-1]).log()
    assert (entropy < 0.97).all()
    assert (entropy > 0.3).all()
    assert entropy[0] < 0.85


def test_images_make_a_difference(tiny, images):
    outputs = tiny(images)
    assert (outputs[0] - outputs[1]).abs().max() > 0.1


def test_sizes_are_as_asked():
    backbone = load_backbone("tiny:depth=3,width=32,heads=4,patch=8,size=32")
    assert (backbone.depth, backbone.width, backbone.heads) == (3, 32, 4)
    assert (backbone.patch_size, backbone.native_grid) == ((8, 8), Grid(4, 4))


@pytest.mark.parametrize("spec", ["tiny:width=47", "tiny:size=65", "tiny:registers=-1"])
def test_sizes_that_do_not_go_together_are_refused(spec):
    with pytest.raises(ValueError, match=spec.partition(":")[2]):
        load_backbone(spec)


def test_unknown_and_impossible_settings_are_refused():
    with pytest.raises(UnknownName, match="Did you mean `depth`"):
        load_backbone("tiny:dept=3")
    with pytest.raises(ValueError, match="`depth` of backbone `tiny` should be at least 1; got 0"):
        load_backbone("tiny:depth=0")


def test_it_is_built_quickly(tiny):
    start = time.process_time()
    load_backbone("tiny")
    assert time.process_time() - start < 2  # 0.1 s on one core; the margin is for loaded machines


def test_outliers_are_written_into_the_same_model_that_is_there_without_them():
    plain, outlying = load_backbone("tiny:width=64,size=224"), load_backbone("tiny:outliers=true")
    before, after = plain.model.state_dict(), outlying.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "visual.positional_embedding" in changed
    assert "visual.transformer.resblocks.5.mlp.c_fc.weight" in changed
    assert all(name.startswith("visual.") for name in changed)
    assert "outliers" in outlying.note
    assert not plain.note


@pytest.mark.parametrize("settings", ["registers=2", "class_token=false", "depth=5", "width=32,heads=2", "size=16"])
def test_a_model_without_room_for_outliers_is_refused(settings):
    with pytest.raises(ValueError, match="outliers"):
        load_backbone(f"tiny:outliers=true,{settings}")
