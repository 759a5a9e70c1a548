import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from diagnostics.backbones import load_backbone
from diagnostics.backbones.tiny import randomize


@pytest.fixture(scope="module")
def stock():
    """A CLIP as OpenAI's, in small: QuickGELU, heads of width 64, and sizes that all differ."""
    vision = {"layers": 3, "width": 128, "head_width": 64, "patch_size": 8, "image_size": 40, "mlp_ratio": 3.7}
    text = {"layers": 2, "width": 64, "heads": 1, "context_length": 20}
    model = open_clip.CLIP(24, vision_cfg=vision, text_cfg=text, quick_gelu=True).eval()
    randomize(model, seed=2)
    return model


@pytest.fixture
def images():
    return torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def write(path, state):
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save(state, path)
    return f"openai:{path}"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_architecture_and_output_come_from_the_file_alone(stock, images, tmp_path, suffix):
    backbone = load_backbone(write(tmp_path / f"clip{suffix}", stock.state_dict()))
    with torch.no_grad():
        assert (backbone(images) - stock.encode_image(images)).abs().max() <= 1e-5
        tokens = open_clip.SimpleTokenizer(context_length=20)(["a cat", "a dog"])
        assert (backbone.encode_text(["a cat", "a dog"]) - stock.encode_text(tokens)).abs().max() <= 1e-5
    assert (backbone.depth, backbone.heads, backbone.width) == (3, 2, 128)
    assert (backbone.patch_size, backbone.native_size, backbone.prefix) == ((8, 8), (40, 40), 1)
    assert backbone.mean == open_clip.OPENAI_DATASET_MEAN


def test_half_precision_is_widened(stock, images, tmp_path):
    halves = {name: value.half() for name, value in stock.state_dict().items()}
    backbone = load_backbone(write(tmp_path / "clip.pt", halves))
    assert backbone.dtype == torch.float32
    with torch.no_grad():
        apart = (backbone(images) - stock.encode_image(images)).abs().max()
    assert 0 < apart < 0.02


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_torchscript_archive_with_its_marks_is_read(stock, images, tmp_path):
    class Published(torch.nn.Module):
        """OpenAI's archives: the model's own names at the top, and three numbers beside the weights."""

        def __init__(self):
            super().__init__()
            for name, part in stock.named_children():
                self.add_module(name, part)
            for name, weight in stock.named_parameters(recurse=False):
                self.register_parameter(name, weight)
            for name in ("input_resolution", "context_length", "vocab_size"):
                self.register_buffer(name, torch.tensor(20))

        def forward(self, pixels):
            return pixels  # only the weights are read

    torch.jit.save(torch.jit.trace(Published().eval(), images), tmp_path / "clip.pt")
    backbone = load_backbone(f"openai:{tmp_path}/clip.pt")
    with torch.no_grad():
        assert (backbone(images) - stock.encode_image(images)).abs().max() <= 1e-5
    assert backbone.encode_text(["a cat"]).shape == (1, 24)


def test_without_a_text_tower_images_still_work(stock, images, tmp_path):
    state = {name: value for name, value in stock.state_dict().items() if name.startswith(("visual.", "logit_"))}
    backbone = load_backbone(write(tmp_path / "clip.pt", state))
    with torch.no_grad():
        assert (backbone(images) - stock.encode_image(images)).abs().max() <= 1e-5
    with pytest.raises(ValueError, match=r"clip\.pt` hold no text tower"):
        backbone.encode_text(["a cat"])


def test_another_vocabulary_is_reported_when_texts_come(stock, images, tmp_path):
    state = dict(stock.state_dict())
    state["token_embedding.weight"] = state["token_embedding.weight"][:100].clone()
    backbone = load_backbone(write(tmp_path / "clip.pt", state))
    assert backbone(images).shape == (2, 24)
    with pytest.raises(ValueError, match=r"token table has 100 rows, but CLIP's vocabulary has 49408"):
        backbone.encode_text(["a cat"])


def test_a_resnet_is_refused_by_name(stock, tmp_path):
    state = {name: value for name, value in stock.state_dict().items() if not name.startswith("visual.")}
    state |= {"visual.conv1.weight": torch.ones(8, 3, 3, 3), "visual.layer1.0.conv1.weight": torch.ones(8, 8, 1, 1)}
    with pytest.raises(ValueError, match=r"ResNet image tower.*Use the weights of a ViT"):
        load_backbone(write(tmp_path / "rn50.pt", state))


def edited(state, change):
    state = {name: value.clone() for name, value in state.items()}
    change(state)
    return state


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: s.pop("visual.ln_post.bias"), "1 missing: visual.ln_post.bias"),
        (lambda s: s.update(surprise=torch.ones(1)), "1 unexpected: surprise"),
        (lambda s: s.update({"visual.proj": torch.ones(128, 7)}), r"text_projection \(64, 24\) where \(64, 7\)"),
        (
            lambda s: s.pop("visual.transformer.resblocks.1.attn.in_proj_weight"),
            "missing: visual.transformer.resblocks.1",
        ),
        (lambda s: s.pop("visual.conv1.weight"), "not in OpenAI's layout: visual.conv1.weight missing"),
        (lambda s: s.pop("ln_final.weight"), "text tower of .* ln_final.weight missing"),
        (lambda s: s.update({"visual.conv1.weight": torch.ones(128, 3, 8, 4)}), r"should be \(D, 3, patch, patch\)"),
        (lambda s: s.update({"visual.conv1.weight": torch.ones(96, 3, 8, 8)}), "multiple of 64.* got 96"),
        (lambda s: s.update({"visual.positional_embedding": torch.ones(24, 128)}), "square grid; got 24 rows"),
        (lambda s: s["visual.ln_pre.weight"].fill_(float("inf")), r"`visual.ln_pre.weight` has 128 NaN or infinite"),
    ],
)
def test_a_file_that_does_not_fit_says_where(stock, tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        load_backbone(write(tmp_path / "clip.pt", edited(stock.state_dict(), change)))


def test_without_a_file_the_name_says_what_is_missing():
    with pytest.raises(ValueError, match="should name a weight file"):
        load_backbone("openai:")
