"""Every method against numbers that its authors' released code computed, in fp32 on a CPU.

`golden/calibration.npz`, inside the repository, is a part of these numbers. The model is a CLIP of random weights in
OpenAI's layout (12 blocks, width 128, 2 heads, patch 16, joint space 64, QuickGELU) with outliers planted: a hidden
unit of block 6 writes a massive value into channels 37 and 68 on a few patches of the image, scikit-learn's
`china.jpg` at 224 x 224 (`china_224`) and at 224 x 336 (`china_rect`). The file holds

- `weights/…`: blocks 7-12, final norm and projection, fp16, the precision that the numbers start from;
- `tokens/china_224/L`, `tokens/china_rect/L`: what leaves block L of the stock forward, fp32; for `china_rect` with
  the position table of SCLIP's line. `tokens/gem/china_224/6`: the same where the blocks before attend by identity, as
  in GEM's release (see segment/methods/gem.py);
- `METHOD/IMAGE`: patches after final norm and projection, every 4th of `china_224` and every 12th of `china_rect`;
  `cliptrase_attnL/…`: every 8th row and column of the correlation of block L.

METHOD was run with wangf3014/SCLIP b56bd30 (clip, sclip), mc-lan/ClearCLIP ad68a40 (clearclip…, maskclip…,
…_noresidual), sinahmr/NACLIP 0cac3a6 (naclip), WalBouss/GEM 5fa677c (gem), xmed-lab/CLIP_Surgery d4696d4
(clip_surgery), SuleBai/SC-CLIP 0417ba9 (sc_clip), Kimsure/SFP 2804f5b (sfp_…) and leaves162/CLIPtrase 2b7de61
(cliptrase…).

The whole set (two models, six images, all patches) is outside the repository; the tests that read it run where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from diagnostics import Backbone, load_backbone
from diagnostics.backbones.openclip import clip_backbone
from diagnostics.images import normalize
from diagnostics.taps import Recorder, Recording, resolve_layer
from segment.encoders.dual_path import DualPath
from segment.encoders.encode_many import encode_many
from segment.method import Activations, Encoder, Encoding
from segment.methods import METHODS

# What a match is, and what we reach: float noise of a forward pass whose values go up to 5.
ASKED, REACHED = 1e-3, 5e-5

# Names of the outputs -> our specs.
SPECS = {
    "clip": "clip",
    "clip_noresidual": "clip:residual=false,ffn=false",
    "sclip": "sclip",
    "sclip_noresidual": "sclip:residual=false,ffn=false",
    "maskclip_residual": "maskclip",
    "maskclip_noresidual": "maskclip:residual=false,ffn=false",
    "clearclip": "clearclip",
    "clearclip_residual": "clearclip:residual=true,ffn=true",
    "naclip": "naclip",
    "gem": "gem",
    "clip_surgery": "clip-surgery",
    "sc_clip": "sc-clip",
    "sfp_som": "sfp",
    "sfp_l2": "sfp:detector=norm-topk",
    "sfp_lof": "sfp:detector=lof-release",
    "cliptrase": "cliptrase",
    "cliptrase_attn11": "cliptrase:affinity_layer=11,raw_maps=true",
    "cliptrase_attn12": "cliptrase:affinity_layer=12,raw_maps=true",
}
IMAGES = ["china_224", "china_336", "china_rect", "flower_224", "flower_336", "flower_rect"]
# How many of the outputs there are; the others are end to end, and are read elsewhere.
COUNTS = {"B": 94, "L": 64}


def output_of(name: str, encoding: Encoding) -> Tensor:
    """What the released code put out under that name: of one image."""
    return (encoding.extras["correlation"] if name.startswith("cliptrase_attn") else encoding.patches)[0]


def apart(output: Tensor, expected: NDArray[np.float32]) -> float:
    """The largest difference; an output of another shape is infinitely far."""
    return float(np.abs(output.numpy() - expected).max()) if output.shape == expected.shape else float("inf")


# The whole set, where it is


@pytest.fixture(scope="module", params=["B", "L"])
def whole(request, shared) -> tuple[str, Backbone, Mapping[str, NDArray[np.float32]], dict[str, Tensor]]:
    folder = shared / "golden"
    backbone = load_backbone(f"openai:{folder}/calibration{request.param}_weights.npz")
    with np.load(folder / "images.npz") as file:
        plain = {name: torch.from_numpy(file[name]).permute(2, 0, 1)[None] / 255 for name in file.files}
    with np.load(folder / f"calibration{request.param}_outputs.npz") as file:
        outputs = {name: file[name] for name in file.files if not name.startswith("end_to_end/")}
    images = {name: normalize(image, backbone.mean, backbone.std) for name, image in plain.items()}
    return request.param, backbone, outputs, images


def test_every_output_has_a_spec_of_ours(whole):
    model, _, outputs, images = whole
    assert {name.partition("/")[0] for name in outputs} <= set(SPECS)
    assert {name.partition("/")[2] for name in outputs} == set(IMAGES) == set(images)
    assert len(outputs) == COUNTS[model]


@pytest.mark.parametrize("image", IMAGES)
def test_every_array_is_that_of_the_released_code(whole, image):
    _, backbone, outputs, images = whole
    names = [name for name in SPECS if f"{name}/{image}" in outputs]
    assert len(names) >= 10
    encodings = encode_many(backbone, images[image], [SPECS[name] for name in names])
    differences = {
        name: apart(output_of(name, encoding), outputs[f"{name}/{image}"])
        for name, encoding in zip(names, encodings, strict=True)
    }
    assert {name: value for name, value in differences.items() if not value <= REACHED} == {}


def test_printed_gem_is_not_what_the_release_computes(whole):
    _, backbone, outputs, images = whole
    (encoding,) = encode_many(backbone, images["china_224"], ["gem-paper"])
    assert apart(encoding.patches[0], outputs["gem/china_224"]) > 1


# The part inside the repository

KEPT = Path(__file__).parent / "golden" / "calibration.npz"
STEP = {"china_224": 4, "china_rect": 12}
SIZE = {"china_224": (224, 224), "china_rect": (224, 336)}
MAP_STEP = 8


def kept_outputs() -> list[str]:
    with np.load(KEPT) as file:
        return [name for name in file.files if not name.startswith(("weights/", "tokens/"))]


@pytest.fixture(scope="module")
def kept() -> dict[str, NDArray]:
    with np.load(KEPT) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def half_known(kept) -> Backbone:
    """The model of the numbers from block 7 on; the blocks before, and all else, are nan."""
    import open_clip

    vision = {"layers": 12, "width": 128, "head_width": 64, "patch_size": 16, "image_size": 224}
    text = {"layers": 1, "width": 8, "heads": 2, "vocab_size": 4, "context_length": 4}
    with torch.random.fork_rng(devices=[]):
        model = open_clip.CLIP(64, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    weights = {name.removeprefix("weights/"): value for name, value in kept.items() if name.startswith("weights/")}
    state = {name: torch.from_numpy(value).float() for name, value in weights.items()}
    unexpected = model.load_state_dict(state, strict=False).unexpected_keys
    assert unexpected == []
    assert len(state) == 6 * 12 + 3
    backbone = clip_backbone(model, spec="calibration", mean=(0.5,) * 3, std=(0.5,) * 3, make_tokenizer=None)
    with torch.no_grad():
        for name, weight in model.visual.named_parameters():
            if f"visual.{name}" not in state:
                weight.fill_(torch.nan)
    return backbone


def stock_from(backbone: Backbone, layers: dict[int, Tensor], encoder: Encoder, size: tuple[int, int]) -> Activations:
    """What the stock pass leaves for an encoder: the given layers' outputs (1, T, D), and what follows the last."""
    last = max(layers)
    places = {(tap, resolve_layer(layer, 12)) for tap, layer in encoder.needs(12)}
    recorder = Recorder(*(tap for tap, _ in places), layers=range(last + 1, 13))
    images = torch.zeros(1, 3, *size)  # only their size is read
    layout = backbone.layout(images)
    backbone.run(layers[last], start=last + 1, tap=recorder, layout=layout)
    before = {("block_out", layer): tokens for layer, tokens in layers.items()}
    return Activations(backbone, images, layout, Recording(12, before | recorder.recording.values))


@pytest.mark.parametrize("output", kept_outputs())
def test_a_fresh_clone_proves_parity(kept, half_known, output):
    name, _, image = output.partition("/")
    encoder = METHODS.build(SPECS[name]).encoder
    start = f"tokens/{image}/"
    if name == "gem":  # what precedes block 7 is in the file: from there on both of its forms are the same
        assert isinstance(encoder, DualPath)
        start, encoder = f"tokens/gem/{image}/", replace(encoder, early="stock")
    layers = {int(key.removeprefix(start)): torch.from_numpy(kept[key])[None] for key in kept if key.startswith(start)}
    values = output_of(name, encoder(stock_from(half_known, layers, encoder, SIZE[image])))
    values = values[::MAP_STEP, ::MAP_STEP] if "attn" in name else values[:: STEP[image]]
    assert apart(values, kept[output]) <= REACHED


def test_the_part_covers_every_method_that_was_run(kept):
    names = {name.partition("/")[0] for name in kept_outputs()}
    assert names == set(SPECS)
    assert sum("china_rect" in name for name in kept_outputs()) == 10
    assert KEPT.stat().st_size <= 3_000_000


def test_the_numbers_tell_methods_apart(kept):
    # Otherwise agreement would prove little.
    outputs = [kept[f"{name}/china_224"] for name in SPECS if "attn" not in name]
    for number, first in enumerate(outputs):
        for second in outputs[number + 1 :]:
            assert np.abs(first - second).max() > 10 * ASKED
