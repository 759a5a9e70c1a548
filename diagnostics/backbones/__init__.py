"""Vision transformers by name: `load_backbone("open_clip:ViT-B-16/openai")`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from diagnostics.backbones.base import QKV, Backbone, Block
from diagnostics.backbones.hub import load_folder, load_hub
from diagnostics.backbones.openai import load_openai
from diagnostics.backbones.openclip import load_open_clip
from diagnostics.backbones.positions import POSITIONS
from diagnostics.backbones.tiny import load_tiny
from diagnostics.registry import Registry, unknown_name

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def load_pocket(argument: str) -> Backbone:
    """The small trained CLIP inside the package: pocket, or pocket:planted, with outliers in its weights"""
    from diagnostics.backbones.pocket import load_pocket as load

    return load(argument)


def load_timm(argument: str) -> Backbone:
    """timm's ViTs: timm:vit_base_patch16_224.dino, or a local file: timm:vit_base_patch16_224.dino@FILE"""
    from diagnostics.backbones.timm import load_timm as load

    return load(argument)


# Each loader takes what follows the first colon.
BACKBONES: Registry[Callable[[str], Backbone]] = Registry(
    "backbone",
    {
        "pocket": load_pocket,
        "tiny": load_tiny,
        "open_clip": load_open_clip,
        "timm": load_timm,
        "hf-hub": load_hub,
        "local-dir": load_folder,
        "openai": load_openai,
    },
)


def load_backbone(
    spec: str,
    *,
    device: torch.device | str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    positions: str | None = None,
) -> Backbone:
    """The backbone that a spec names, with its weights, on a device.

    The family stands before the first colon: `pocket`, `tiny`, `open_clip:ViT-B-16/openai`,
    `open_clip:ViT-B-16@weights.safetensors`, `timm:vit_base_patch16_224.dino`, `hf-hub:org/name`, `openai:weights.pt`;
    `BACKBONES.describe()` lists them. `positions` names the interpolation of the position table for other image
    sizes (diagnostics.backbones.positions); None is what open_clip's and timm's own loaders do. Raises ValueError for
    an unknown name, for a model that the blocks cannot run, for weights that are damaged or do not fit, and for a
    device that this machine lacks. The global random generator is left as it was.
    """
    family, _, argument = spec.strip().partition(":")
    load = BACKBONES[family]
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    place = _device(device)
    if positions is not None:
        POSITIONS[positions]  # an unknown name is refused before the weights are read
    with torch.random.fork_rng(devices=[]):  # stock constructors draw weights that are then replaced
        backbone = load(argument)
    if positions is not None:
        backbone.positions = positions
    return backbone.to(device=place, dtype=PRECISIONS[precision])


def _device(name: torch.device | str) -> torch.device:
    expected = f"`device` should be cpu, cuda, cuda:N or mps; got `{name}`."
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(expected) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(expected)
    if device.type == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= found:
            raise ValueError(
                f"`device` is `{name}`, but torch sees {found} CUDA devices here; use `cpu`, or check the driver and "
                "that this torch was built for CUDA."
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"`device` is `{name}`, but torch finds no Apple GPU here; use `cpu`.")
    return device


__all__ = ["BACKBONES", "QKV", "Backbone", "Block", "load_backbone"]
