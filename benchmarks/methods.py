"""What segmentation methods cost: each alone, all of them in one pass, and in bf16, against the stock forward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.ratios import crops, ratios
from diagnostics import Backbone
from segment.encoders.encode_many import encode_many
from segment.method import TextFeatures
from segment.methods import METHODS

# Methods with a second network cost that network on top; they are timed apart.
SECOND_NETWORK = ("proxyclip", "lavg")
OURS = ("purify-first",)
# What a method looks for on the first images of a run, named: as many neurons as are found.
NAMED = {"registers": "registers:neurons=" + "+".join(f"{layer}/{layer}" for layer in (1, 2, 3, 4, 5, 6))}
# As many words as COCO-Object has queries, for methods that read them.
WORDS = 113


def released() -> list[str]:
    """Methods as released, on one network."""
    names = [name for name in METHODS if not name.endswith("-paper") and name not in (*SECOND_NETWORK, *OURS)]
    return [NAMED.get(name, name) for name in names]


def words(backbone: Backbone) -> TextFeatures:
    """Random words: what they mean does not change the time that a method takes."""
    width = backbone.project(torch.zeros(1, 1, backbone.width, device=backbone.device, dtype=backbone.dtype)).shape[-1]
    features = torch.randn(WORDS, width, generator=torch.Generator().manual_seed(0))
    features = torch.nn.functional.normalize(features, dim=-1).to(backbone.device)
    return TextFeatures(features=features, owners=torch.arange(WORDS), names=tuple(map(str, range(WORDS))))


def method_speed(backbone: Backbone, *, batch: int, rounds: int) -> dict[str, tuple[float, float]]:
    """The stock forward, every method's features alone, and all released ones in one pass, on the same windows."""
    images = crops(backbone, batch, backbone.native_size)

    def stock() -> Tensor:
        with torch.no_grad():
            return backbone.model.encode_image(images)  # type: ignore[operator, no-any-return]

    def features(specs: list[str]) -> Callable[[], object]:
        return lambda: encode_many(backbone, images, specs, text=text)

    text = words(backbone)
    alone = [NAMED.get(name, name) for name in METHODS if name not in SECOND_NETWORK]
    return ratios(
        {
            "stock forward": stock,
            **{name: features([name]) for name in alone},
            f"all {len(released())} released methods in one pass": features(released()),
        },
        rounds,
    )


def bf16_speed(backbone: Backbone, *, batch: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Features of all released methods in fp32 and in bf16; the ratio is time in bf16 over time in fp32."""
    import copy

    images = crops(backbone, batch, backbone.native_size)
    half = copy.deepcopy(backbone).to(dtype=torch.bfloat16)
    specs, text = released(), words(backbone)
    return ratios(
        {
            "fp32, all released methods": lambda: encode_many(backbone, images, specs, text=text),
            "bf16, all released methods": lambda: encode_many(half, images, specs, text=text),
            "bf16, clearclip": lambda: encode_many(half, images, ["clearclip"]),
        },
        rounds,
    )
