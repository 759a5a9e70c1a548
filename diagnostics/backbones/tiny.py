"""`tiny`: a seeded random model for tests and demonstrations, built in milliseconds, of every family and prefix."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import nn

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.clip_model import PlainClip, plain_backbone
from diagnostics.backbones.clip_words import LENGTH, tokenizer
from diagnostics.backbones.tiny_families import Kind, timm_model
from diagnostics.backbones.tiny_outliers import write_outliers
from diagnostics.registry import Registry, unknown_name

# All sizes are our choice: small enough for milliseconds, and no two of them equal, so that a mixed-up dimension shows.
JOINT = 40
TEXT_WIDTH = 32
TEXT_BLOCKS = 2
# Entries of CLIP's vocabulary.
WORDS = 49408
CLASSES = 10
OUTLIERS_NOTE = (
    "tiny has random weights, with outliers planted in block 6 (channels 17 and 44). It shows how the tools work, not "
    "what a real model does."
)
# Spread of the attention logits in the first block; 0 would be uniform attention, above 4 it is nearly one-hot.
LOGIT_SPREAD = 2.0
# Spread of learned rotary frequencies, in radians a patch: neighbors stay alike, the far side of the grid does not.
ROTARY_SPREAD = 0.3


def load_tiny(argument: str) -> Backbone:
    """A seeded random ViT for tests, no download: tiny, tiny:registers=4, tiny:outliers=true, tiny:kind=rotary

    By default a CLIP of 12 blocks with QuickGELU, a class token and a text tower, with open_clip's names of its
    weights. Without a class token, or with registers, a timm ViT with a classifier of 10 rows. The weights depend on
    the settings alone. `kind` names another family of models, in timm's layout: `rotary` (as DINOv3), `rotary-mixed`
    (frequencies of each head), `post-norm` (gated feed-forward networks, norms after the branches), `relative-bias`,
    `parallel` (both branches side by side), `differential` (a difference of two softmaxes), `conv-stem`, `naflex`. With
    `outliers=true`, one hidden unit of block 6 makes outliers on plain patches, and later blocks look at them.
    """
    backbone: Backbone = Registry("backbone", {"tiny": build_tiny}).build(f"tiny:{argument}")
    backbone.spec = f"tiny:{argument}" if argument else "tiny"
    return backbone


def build_tiny(
    *,
    kind: Kind = "plain",
    class_token: bool = True,
    registers: int = 0,
    depth: int = 12,
    width: int | None = None,
    heads: int = 2,
    patch: int = 16,
    size: int | None = None,
    seed: int = 0,
    outliers: bool = False,
) -> Backbone:
    """The tiny model from its settings; raises ValueError where they do not go together.

    `width` and `size` are 48 and 64 unless given; 64 and 224 with `outliers`, which need room.
    """
    width = (64 if outliers else 48) if width is None else width
    size = (224 if outliers else 64) if size is None else size
    sizes = {"depth": depth, "width": width, "heads": heads, "patch": patch, "size": size}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"`{name}` of backbone `tiny` should be at least 1; got {value}.")
    if registers < 0 or width % heads or size % patch:
        raise ValueError(
            f"backbone `tiny` needs a width that its heads divide, a size that its patch divides, and no negative "
            f"count of registers; got width={width}, heads={heads}, size={size}, patch={patch}, registers={registers}."
        )
    if kind not in get_args(Kind):
        raise unknown_name("kind of backbone `tiny`", kind, get_args(Kind))
    if class_token and not registers and kind == "plain":
        backbone = _clip(depth=depth, width=width, heads=heads, patch=patch, size=size, seed=seed)
        if outliers:
            write_outliers(backbone.model.get_submodule("visual"))
            backbone.note = OUTLIERS_NOTE
        return backbone
    if outliers:
        raise ValueError(
            "`outliers` of backbone `tiny` are written into its CLIP only; leave out kind, class_token, registers, or "
            "plant them as the images pass: diagnostics.edits.plant."
        )
    shape: dict[str, Any] = {
        "img_size": size,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
    }
    shape |= {"class_token": class_token, "global_pool": "token" if class_token else "avg", "num_classes": CLASSES}
    return _timm(kind, registers, shape, seed=seed)


def _clip(*, depth: int, width: int, heads: int, patch: int, size: int, seed: int) -> Backbone:
    vision = {"layers": depth, "width": width, "heads": heads, "patch_size": patch, "image_size": size}
    text = {"layers": TEXT_BLOCKS, "width": TEXT_WIDTH, "heads": 2, "context_length": LENGTH, "vocab_size": WORDS}
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global generator
        model = PlainClip(JOINT, vision=vision, text=text)
    randomize(model, seed)
    return plain_backbone(model, spec="tiny", make_tokenizer=tokenizer)


def _timm(kind: Kind, registers: int, shape: dict[str, Any], *, seed: int) -> Backbone:
    from timm.data import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD

    from diagnostics.backbones.timm import timm_backbone

    with torch.random.fork_rng(devices=[]):
        model = timm_model(kind, registers, shape)
    randomize(model, seed)
    return timm_backbone(model, "tiny", mean=IMAGENET_INCEPTION_MEAN, std=IMAGENET_INCEPTION_STD)


def randomize(model: nn.Module, seed: int) -> None:
    """Fills every weight from a generator of its own; no global state is read or changed.

    A matrix gets the deviation 1/√(inputs), which keeps a signal's size. Rows that make queries and keys get
    √(spread/inputs) instead: of a normalized token, q·k/√d then has the deviation `LOGIT_SPREAD`, so attention is far
    from uniform. Norm gains spread by 0.1 around 1, and biases by 0.1 around 0, so that each of them matters.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, spread: float, center: float = 0.0) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread + center)

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("logit_scale"):
                continue
            if weight.ndim < 2:
                gain = name.endswith(("weight", "gamma", "gamma_1", "gamma_2"))
                token = name.endswith(("class_embedding", "cls_token"))
                normal(weight, 1.0 if token else 0.1, 1.0 if gain else 0.0)
            elif name.endswith(("positional_embedding", "pos_embed", "cls_token", "reg_token", "embedding.weight")):
                normal(weight, 1.0)
            elif name.endswith("rope.freqs"):
                normal(weight, ROTARY_SPREAD)
            elif name.endswith("bias_table"):
                normal(weight, 1.0)
            elif name.endswith((".proj", "text_projection")):  # stored as inputs x outputs
                normal(weight, weight.shape[0] ** -0.5)
            else:
                inputs = weight[0].numel()
                normal(weight, inputs**-0.5)
                if name.endswith(("in_proj_weight", "qkv.weight")):
                    weight[: 2 * inputs] *= LOGIT_SPREAD**0.5
