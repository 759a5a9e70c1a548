"""What is refused by arithmetic before any work, and that the arithmetic never claims more than is taken."""

from __future__ import annotations

import resource

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import diagnostics.memory as module
from diagnostics.backbones import load_backbone
from diagnostics.backbones.outline import outline_of
from diagnostics.backbones.timm import TimmTower, meta_model
from diagnostics.detectors import DETECTORS
from diagnostics.images.feed import ListedImage
from diagnostics.layout import Grid, Layout
from diagnostics.measures import MEASURES
from diagnostics.memory import HoldsPairs, check_memory, memory_of, readable_bytes
from diagnostics.studies.probe import check_fit, measure_images
from diagnostics.studies.scoring import prepare_run
from segment.encoders.encode_many import encode_many
from segment.methods import METHODS


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that an operation made."""

    bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        if isinstance(made, Tensor):
            self.bytes = max(self.bytes, made.numel() * made.element_size())
        return made


@pytest.fixture
def memory(monkeypatch):
    """Sets what the machine has."""
    return lambda count: monkeypatch.setattr(module, "memory_of", lambda device: count)


def listed(*sizes) -> list[ListedImage]:
    return [ListedImage(f"{height}x{width}.png", None, size=(height, width)) for height, width in sizes]


def test_the_error_names_the_image_tokens_bytes_and_the_next_step(tiny, memory):
    # 40 x 30 patches of 16 pixels and a class token; input, norm, queries, keys and values of width 48 in fp32.
    least = 5 * 1201 * 48 * 4
    memory(least)
    check_memory(tiny, listed((32, 32), (640, 480)))
    memory(least - 1)
    with pytest.raises(ValueError, match="640x480") as refused:
        check_memory(tiny, listed((32, 32), (640, 480), (64, 64)))
    text = str(refused.value)
    assert "640x480.png" in text
    assert "1,201 tokens of `tiny`" in text
    assert "1.15 MB" in text
    assert "at 480x640 pixels" in text
    assert "--size" in text
    assert "Nothing was computed" in text


def test_parts_that_hold_pairs_count(tiny, memory):
    least = 8 * 1200**2  # distances of patches in double precision
    memory(least - 1)
    with pytest.raises(ValueError, match=r"LocalOutlierFactor takes at least 11\.5 MB"):
        check_memory(tiny, listed((640, 480)), [DETECTORS.build("lof")])
    memory(least)
    check_memory(tiny, listed((640, 480)), [DETECTORS.build("lof")])
    memory(least - 1)
    with pytest.raises(ValueError, match="Adaptive"):
        check_memory(tiny, listed((640, 480)), [DETECTORS.build("adaptive:detector=lof")])


def test_images_that_can_not_be_read_do_not_count(tiny, memory):
    memory(1)
    check_memory(tiny, [ListedImage("a", None, reason="damaged")])


def test_results_of_all_layers_count(tiny, memory):
    # Two maps of 4 x 6 patches, norm and its ratio, and what has no dims of patches.
    parts = [MEASURES.build("norms")]
    numbers = sum(
        24 if {"row", "col"} <= set(variable.dims) else 1 for variable in parts[0].variables if "image" in variable.dims
    )
    memory(max(4 * 12 * numbers, 5 * 25 * 48 * 4) - 1)
    with pytest.raises(ValueError, match="tokens"):
        check_fit(tiny, listed((64, 96)), parts, 12, device="cpu")
    memory(4 * 12_000 * numbers - 1)
    check_fit(tiny, listed((64, 96)), parts, 11_999, device="cpu")
    with pytest.raises(ValueError, match="what is kept of the image"):
        check_fit(tiny, listed((64, 96)), parts, 12_000, device="cpu")


LAYOUT = Layout(1, Grid(9, 11))


@pytest.mark.parametrize("name", [name for name in MEASURES if isinstance(MEASURES.build(name), HoldsPairs)])
def test_measures_take_what_they_say(tiny, name):
    part = MEASURES.build(name)
    images = torch.randn(1, 3, 9 * 16, 11 * 16, generator=torch.Generator().manual_seed(0))
    with Largest() as largest:
        measure_images(tiny, images, [part], layers=[1])
    assert largest.bytes >= part.least_bytes(LAYOUT, tiny.heads) >= 4 * 99**2


@pytest.mark.parametrize("name", [name for name in DETECTORS if isinstance(DETECTORS.build(name), HoldsPairs)])
def test_detectors_take_what_they_say(tiny, name):
    part = DETECTORS.build(name)
    generator = torch.Generator().manual_seed(0)
    shapes = {"query": (1, 2, 100, 24), "key": (1, 2, 100, 24)}
    recording = {
        tap: torch.randn(shapes.get(tap, (1, 100, 48)), generator=generator)
        for tap in part.needs
        if tap != "attention_bias"
    }
    with Largest() as largest:
        part.score(recording, LAYOUT)
    assert largest.bytes >= part.least_bytes(LAYOUT, 2)
    assert name == "adaptive" or part.least_bytes(LAYOUT, 2) >= 4 * 99**2


@pytest.mark.parametrize("name", ["sc-clip", "cliptrase-paper", "sfp-paper", "sfp", "clip", "clearclip"])
def test_encoders_take_what_they_say(tiny, name):
    method = METHODS.build(name)
    images = torch.randn(1, 3, 9 * 16, 11 * 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), Largest() as largest:
        encode_many(tiny, images, [method])
    least = method.encoder.least_bytes(LAYOUT, tiny.heads)
    assert largest.bytes >= least
    assert (least >= 4 * 99**2) == (name not in ("clip", "clearclip"))


def test_runs_are_refused_before_they_begin(tiny, memory, tmp_path):
    memory(100)
    images = [torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()]
    import diagnostics
    from segment.classify import classify

    for run in (
        lambda: diagnostics.probe(tiny, images),
        lambda: diagnostics.encode(tiny, images, out=tmp_path / "a.safetensors"),
        lambda: prepare_run(tiny, images, ["relative-norm"]),
        lambda: classify(tiny, images, _text(tiny)),
    ):
        with pytest.raises(ValueError, match="17 tokens of `tiny`"):
            run()
    assert not list(tmp_path.glob("*.safetensors*"))


def _text(backbone):
    from segment.method import TextFeatures

    width = backbone.project(torch.zeros(1, 1, backbone.width)).shape[-1]
    return TextFeatures(features=torch.eye(2, width), owners=torch.arange(2), names=("a", "b"))


def test_memory_is_the_least_of_machine_process_and_group(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_physical", lambda: 1000)
    monkeypatch.setattr(module, "GROUP_LIMITS", (str(tmp_path / "none"),))
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert memory_of("cpu") == 1000
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (700, resource.RLIM_INFINITY))
    assert memory_of("cpu") == 700
    (tmp_path / "max").write_text("max\n")
    (tmp_path / "number").write_text("300\n")
    monkeypatch.setattr(module, "GROUP_LIMITS", (str(tmp_path / "max"), str(tmp_path / "number")))
    assert memory_of("cpu") == 300


def test_bytes_are_readable():
    assert [readable_bytes(count) for count in (12, 1500, 2_250_003_000_001, 10**16)] == [
        "12 bytes",
        "1.5 kB",
        "2.25 TB",
        "10,000 TB",
    ]


@pytest.mark.parametrize("spec", ["pocket", "tiny", "tiny:class_token=false", "tiny:registers=4,patch=8"])
def test_an_outline_is_that_of_the_loaded_backbone(spec):
    outline, backbone = outline_of(spec), load_backbone(spec)
    for name in ("patch_size", "prefix", "class_index", "width", "heads", "depth"):
        assert getattr(outline, name) == getattr(backbone, name), name


def test_outlines_need_no_weights():
    outline = outline_of("open_clip:ViT-L-14/openai")
    assert (outline.patch_size, outline.width, outline.heads, outline.prefix) == ((14, 14), 1024, 16, 1)
    assert outline.depth == 24
    outline = outline_of("timm:vit_small_patch14_reg4_dinov2.lvd142m")
    assert (outline.patch_size, outline.width, outline.heads, outline.prefix) == ((14, 14), 384, 6, 5)
    assert TimmTower(meta_model("vit_small_patch14_reg4_dinov2"), "x").prefix == 5
    assert outline_of("openai:missing.pt") is None
    assert outline_of("timm:nonsense") is None
