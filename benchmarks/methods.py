"""What segmentation methods cost: each alone, all of them in one pass, and in bf16, against the stock forward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.ratios import crops, ratios
from diagnostics import Backbone
from segment.encoders.encode_many import encode_many
from segment.methods import METHODS

# Methods with a second network cost that network on top; they are timed apart.
SECOND_NETWORK = ("proxyclip", "lavg")


def released() -> list[str]:
    """Methods as released, on one network."""
    return [name for name in METHODS if not name.endswith("-paper") and name not in SECOND_NETWORK]


def method_speed(backbone: Backbone, *, batch: int, rounds: int) -> dict[str, tuple[float, float]]:
    """The stock forward, every method's features alone, and all released ones in one pass, on the same windows."""
    images = crops(backbone, batch, backbone.native_size)

    def stock() -> Tensor:
        with torch.no_grad():
            return backbone.model.encode_image(images)  # type: ignore[operator, no-any-return]

    def features(specs: list[str]) -> Callable[[], object]:
        return lambda: encode_many(backbone, images, specs)

    alone = [name for name in METHODS if name not in SECOND_NETWORK]
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
    specs = released()
    return ratios(
        {
            "fp32, all released methods": lambda: encode_many(backbone, images, specs),
            "bf16, all released methods": lambda: encode_many(half, images, specs),
            "bf16, clearclip": lambda: encode_many(half, images, ["clearclip"]),
        },
        rounds,
    )
