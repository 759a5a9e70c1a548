"""Vision transformers by name: `load_backbone("open_clip:ViT-B-16/openai")`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry, unknown_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diagnostics.backbones.base import QKV, Backbone, Block
    from diagnostics.layout import Grid

__all__ = ["BACKBONES", "POSITIONS", "QKV", "Backbone", "Block", "load_backbone"]

__getattr__, __dir__ = lazy_names(__name__, {"diagnostics.backbones.base": ("QKV", "Backbone", "Block")})

# Each loader takes what follows the first colon.
BACKBONES: Registry[Callable[[str], Backbone]] = Registry(
    "backbone",
    {
        "pocket": "diagnostics.backbones.pocket:load_pocket",
        "tiny": "diagnostics.backbones.tiny:load_tiny",
        "open_clip": "diagnostics.backbones.openclip:load_open_clip",
        "timm": "diagnostics.backbones.timm:load_timm",
        "hf-hub": "diagnostics.backbones.hub:load_hub",
        "local-dir": "diagnostics.backbones.hub:load_folder",
        "openai": "diagnostics.backbones.openai:load_openai",
    },
    group="backbones",
)

POSITIONS: Registry[Callable[[Tensor, Grid], Tensor]] = Registry(
    "position interpolation",
    {
        "bicubic-antialiased": "diagnostics.backbones.positions:bicubic_antialiased",
        "bicubic": "diagnostics.backbones.positions:bicubic",
        "bicubic-offset": "diagnostics.backbones.positions:bicubic_offset",
        "bilinear": "diagnostics.backbones.positions:bilinear",
        "bilinear-antialiased": "diagnostics.backbones.positions:bilinear_antialiased",
    },
    group="positions",
)

PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


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
    `BACKBONES.describe()` lists them. `positions` names the interpolation of the positional embeddings for other image
    sizes (`POSITIONS`); None is what open_clip's and timm's own loaders do. Raises ValueError for
    an unknown name, for a model that the blocks cannot run, for weights that are damaged or do not fit, and for a
    device that this machine lacks. The global random generator is left as it was.

    Parameters
    ----------
    spec : str
        Family and model: `pocket`, `tiny`, `open_clip:ViT-B-16/openai`, `open_clip:ViT-B-16@FILE`, `timm:NAME` …;
        `ao.BACKBONES.describe()` lists the families.
    device : torch.device or str
        Where the weights go: `cpu`, `cuda`, `cuda:1`, `mps`.
    precision : {"fp32", "bf16"}
        Of weights and activations; measures are fp32 either way.
    positions : str or None
        Interpolation of positional embeddings for other image sizes, a name of `ao.POSITIONS`; None takes that of
        the model's own loader.

    Returns
    -------
    Backbone
        The model in eval mode, its weights frozen.

    Raises
    ------
    ValueError
        For an unknown name, a model that the blocks can not run, weights that do not fit, and a device that is not
        there.
    OSError
        If weights can not be read or fetched.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny")
    >>> backbone.depth, backbone.heads, backbone.native_size
    (12, 2, (64, 64))
    """
    import torch

    from diagnostics.backbones.hub import quiet_client

    family, _, argument = spec.strip().partition(":")
    load = BACKBONES[family]
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    place = _device(device)
    if positions is not None:
        POSITIONS[positions]  # an unknown name is refused before the weights are read
    with quiet_client(), torch.random.fork_rng(devices=[]):  # stock constructors draw weights that are then replaced
        backbone = load(argument)
    if positions is not None:
        backbone.positions = positions
    return backbone.to(device=place, dtype=getattr(torch, PRECISIONS[precision]))


def _device(name: torch.device | str) -> torch.device:
    import torch

    expected = f"`device` should be cpu, cuda, cuda:N or mps; got `{name}`."
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(expected) from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(expected)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ValueError(
                f"`device` is `{name}`, but torch sees {count} CUDA devices here; use `cpu`, or check the driver and "
                "that this torch was built for CUDA."
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"`device` is `{name}`, but torch finds no Apple GPU here; use `cpu`.")
    return device
