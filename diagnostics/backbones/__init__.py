"""Vision transformers by name: `load_backbone("open_clip:ViT-B-16/openai")`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from diagnostics.lazy import lazy_names
from diagnostics.registry import Registry, unknown_name

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

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
        "memory": "diagnostics.backbones.memory:load_memory",
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
        "bicubic-antialiased-square": "diagnostics.backbones.positions:bicubic_antialiased_square",
        "bilinear-square": "diagnostics.backbones.positions:bilinear_square",
        "bilinear-corners-square": "diagnostics.backbones.positions:bilinear_corners_square",
    },
    group="positions",
)

EDIT = " + "  # between a backbone's spec and those of edits
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


def load_backbone(
    spec: str | nn.Module,
    *,
    device: torch.device | str | None = None,
    precision: Literal["fp32", "bf16"] | None = None,
    positions: str | None = None,
    name: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    tokenizer: Callable[..., Any] | None = None,
) -> Backbone:
    """The backbone that a spec names, with its weights, on a device; or the one over a model that you hold.

    The family stands before the first colon: `pocket`, `tiny`, `open_clip:ViT-B-16/openai`,
    `open_clip:ViT-B-16@weights.safetensors`, `timm:vit_base_patch16_224.dino`, `hf-hub:org/name`, `openai:weights.pt`;
    `BACKBONES.describe()` lists them. Behind ` + ` may stand edits that are at work in every forward pass:
    `timm:NAME + mute-channels:channels=41,layers=8`, see `EDITS`. `positions` names the interpolation of the
    positional embeddings for other image sizes (`POSITIONS`); None is what open_clip's and timm's own loaders do.
    Raises ValueError for an unknown name, for a model that the blocks cannot run, for weights that are damaged or do
    not fit, and for a device that this machine lacks. The global random generator is left as it was.

    A model in memory (of timm, open_clip, transformers, fine-tuned or not) is taken on its device and in its precision.
    Its weights are shared, not copied, and the object is left as it was: its mode, its hooks, and which of its weights
    learn. The spec becomes `memory:NAME@FINGERPRINT`, a hash of the weights as they are now; after more training, load
    it again.

    Parameters
    ----------
    spec : str or torch.nn.Module
        Family and model: `pocket`, `tiny`, `open_clip:ViT-B-16/openai`, `open_clip:ViT-B-16@FILE`, `timm:NAME` …;
        `ao.BACKBONES.describe()` lists the families. Or a model in memory.
    device : torch.device, str or None
        Where the weights go: `cpu`, `cuda`, `cuda:1`, `mps`. None is the CPU, for a model in memory its own device; on
        another device it is a copy.
    precision : {"fp32", "bf16"} or None
        Of weights and activations; measures are fp32 either way. None is fp32, for a model in memory its own
        precision, which may be fp16 as well.
    positions : str or None
        Interpolation of positional embeddings for other image sizes, a name of `ao.POSITIONS`; None takes that of
        the model's own loader.
    name : str or None
        For a model in memory: what it is called in results; None takes timm's name of it, or its class.
    mean, std : sequence of 3 floats, or None
        For a model in memory: normalization of RGB in [0, 1]; None takes what the object says.
    tokenizer : callable or None
        For a model in memory with a text tower: texts to tokens (C, length); None is CLIP's, where its words fit.

    Returns
    -------
    Backbone
        The model in eval mode, its weights frozen.

    Raises
    ------
    ValueError
        For an unknown name or class, a model that the blocks can not run, weights that do not fit, and a device that
        is not there.
    OSError
        If weights can not be read or fetched.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny")
    >>> backbone.depth, backbone.heads, backbone.native_size
    (12, 2, (64, 64))

    A model that you hold, such as one that you have just trained:

    >>> import timm
    >>> model = timm.create_model("test_vit", num_classes=3)
    >>> backbone = ao.load_backbone(model, name="mine")
    >>> backbone.spec.startswith("memory:mine@"), model.training
    (True, True)
    """
    import torch

    from diagnostics.backbones.hub import quiet_client

    if precision is not None and precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    in_memory = {"name": name, "mean": mean, "std": std, "tokenizer": tokenizer}
    edits: list[str] = []
    if isinstance(spec, str):
        spec, *edits = (piece.strip() for piece in spec.split(EDIT))
        family, _, argument = spec.strip().partition(":")
        if not argument and family not in BACKBONES and (full := _with_family(family)):
            raise unknown_name("backbone", family, BACKBONES, meant=full)
        load = BACKBONES[family]
        _only_in_memory(in_memory)
        device, precision = "cpu" if device is None else device, precision or "fp32"
    place = None if device is None else _device(device)
    if positions is not None:
        POSITIONS[positions]  # an unknown name is refused before the weights are read
    if isinstance(spec, str):
        # Stock constructors draw weights that are then replaced.
        with quiet_client(), torch.random.fork_rng(devices=[]):
            backbone = load(argument)
    else:
        from diagnostics.backbones.memory import memory_backbone

        backbone = memory_backbone(spec, **in_memory)  # type: ignore[arg-type]
    if positions is not None:
        backbone.positions = positions
    backbone = backbone.to(device=place, dtype=None if precision is None else getattr(torch, PRECISIONS[precision]))
    if edits:
        from diagnostics.edits.specs import edited

        return edited(backbone, edits)
    return backbone


def loads_anywhere(spec: str) -> bool:
    """Whether another process can load a backbone by its spec: not one that was made of a model in memory."""
    family = spec.partition(":")[0]
    return family != "memory" and family in BACKBONES


def _only_in_memory(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if value is not None:
            raise ValueError(
                f"`{name}` goes with a model in memory, load_backbone(module, {name}=…); the weights of a spec bring "
                "their own."
            )


def _with_family(name: str) -> str:
    """`timm:NAME` for a name that timm has, `open_clip:NAME/TAG` for one of open_clip; "" for others."""
    import open_clip
    import timm

    architecture = re.split("[/@]", name, maxsplit=1)[0]
    if architecture in open_clip.list_models():
        return f"open_clip:{name if name != architecture else name + '/TAG'}"
    return f"timm:{name}" if timm.is_model(architecture.partition(".")[0]) else ""


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
