"""Bare state dicts in the layout of OpenAI's CLIP; the architecture is read off the shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.checkpoint import joined_notes
from diagnostics.backbones.openclip import NO_WEIGHTS, clip_backbone
from diagnostics.backbones.transformers_names import instead_for
from diagnostics.backbones.weights import fill, first_names, read_checkpoint
from diagnostics.registry import unknown_name

# OpenAI's CLIP has heads of this width in both towers. Source: openai/CLIP, clip/model.py, build_model.
HEAD_WIDTH = 64


ACTIVATIONS = ("quick-gelu", "gelu")
ASSUMED = (
    "QuickGELU is assumed, as in OpenAI's models; the file does not say. Weights trained with GELU, as most of "
    "open_clip's are, go by openai:FILE,activation=gelu"
)


def load_openai(argument: str) -> Backbone:
    """Bare weights in the layout of OpenAI's CLIP: openai:FILE (.pt, .safetensors, .npz), architecture off the shapes

    FILE is a state dict or OpenAI's own TorchScript archive. QuickGELU, as in all of OpenAI's models, unless told
    otherwise: openai:FILE,activation=gelu; a note says so where the file bears no mark of OpenAI's. Heads are of width
    64; half precision is widened to fp32. Without a text tower the image tower works alone. ValueError for a ResNet,
    for another layout, and for weights that are missing or left over.
    """
    spec = f"openai:{argument}"
    if not argument:
        raise ValueError("`openai:` should name a weight file: openai:weights.pt, .safetensors or .npz.")
    path, activation = argument, None
    if setting := re.fullmatch(r"(.+),activation=([\w-]*)", argument):
        path, activation = setting[1], setting[2]
        if activation not in ACTIVATIONS:
            raise unknown_name("activation", activation, ACTIVATIONS)
    weights, note = read_checkpoint(path)
    marked = weights.keys() >= set(NO_WEIGHTS)
    if marked and activation == "gelu":
        raise ValueError(f"`{path}` is one of OpenAI's own files, trained with QuickGELU; leave `activation` out.")
    if not marked and activation is None:
        note = joined_notes(note, ASSUMED)
    weights = {name: value for name, value in weights.items() if name not in NO_WEIGHTS}
    return openai_backbone(weights, spec=spec, quick_gelu=activation != "gelu", note=note)


def openai_backbone(weights: Mapping[str, Tensor], *, spec: str, quick_gelu: bool = True, note: str = "") -> Backbone:
    """The backbone over a state dict in OpenAI's layout; the tensors are copied, in fp32."""
    import open_clip

    if any(name.startswith("visual.layer1.") for name in weights):
        raise ValueError(
            f"`{spec}` holds a ResNet image tower; this package looks into ViTs. Use the weights of a ViT, for "
            "example ViT-B/16."
        )
    vision = _vision(weights, spec)
    embed = weights["visual.proj"].shape[1]
    two_towers = any(not name.startswith(("visual.", "logit_")) for name in weights)
    text = _text(weights, spec) if two_towers else {"layers": 1, "width": HEAD_WIDTH, "heads": 1, "vocab_size": 1}
    bias = 0.0 if "logit_bias" in weights else None  # of the sigmoid loss
    stock = open_clip.CLIP(embed, vision_cfg=vision, text_cfg=text, quick_gelu=quick_gelu, init_logit_bias=bias)
    model: nn.Module = stock if two_towers else nn.ModuleDict({"visual": stock.visual})
    if not two_towers:
        left = [name for name in weights if not name.startswith("visual.")]
        note = joined_notes(note, f"without a text tower {', '.join(left)} has no use" if left else "")
        weights = {name: value for name, value in weights.items() if name.startswith("visual.")}
    for name in ("logit_scale", "logit_bias"):  # one number, however it is stored
        if name in weights and weights[name].numel() == 1:
            weights = {**weights, name: weights[name].reshape(())}
    fill(model, weights, spec=spec, instead="Export the whole state dict of a CLIP in OpenAI's layout.")
    return clip_backbone(
        model,
        spec=spec,
        mean=open_clip.OPENAI_DATASET_MEAN,
        std=open_clip.OPENAI_DATASET_STD,
        make_tokenizer=(lambda: _tokenizer(text)) if two_towers else None,
        note=note,
    )


def _vision(weights: Mapping[str, Tensor], spec: str) -> dict[str, Any]:
    needed = ("visual.conv1.weight", "visual.positional_embedding", "visual.proj")
    absent = [name for name in needed if name not in weights]
    if absent:
        raise ValueError(
            f"`{spec}` is not in OpenAI's layout: {first_names(absent)} missing; found {first_names(weights)}. "
            + instead_for(
                weights,
                "Weights saved by open_clip or timm go by their architecture: open_clip:ARCHITECTURE@FILE, "
                "timm:NAME@FILE.",
            )
        )
    kernel = tuple(weights["visual.conv1.weight"].shape)
    if len(kernel) != 4 or kernel[2] != kernel[3]:
        raise ValueError(f"`visual.conv1.weight` of `{spec}` should be (D, 3, patch, patch); got {kernel}.")
    width, patch = kernel[0], kernel[2]
    _heads(width, "image", spec)
    rows = weights["visual.positional_embedding"].shape[0]
    side = round((rows - 1) ** 0.5)
    if side**2 + 1 != rows:
        raise ValueError(
            f"`visual.positional_embedding` of `{spec}` should have one row for the class token and a square grid; "
            f"got {rows} rows. Export the model at a square image size."
        )
    return {
        "width": width,
        "head_width": HEAD_WIDTH,
        "layers": _depth(weights, "visual.transformer", spec),
        "patch_size": patch,
        "image_size": side * patch,
        "mlp_ratio": _ratio(weights, "visual.transformer", width),
    }


def _text(weights: Mapping[str, Tensor], spec: str) -> dict[str, Any]:
    needed = ("token_embedding.weight", "positional_embedding", "text_projection", "ln_final.weight")
    absent = [name for name in needed if name not in weights]
    if absent:
        raise ValueError(
            f"the text tower of `{spec}` is not in OpenAI's layout: {first_names(absent)} missing. Export the whole "
            "state dict, or the image tower (`visual.…`) alone."
        )
    vocabulary, width = weights["token_embedding.weight"].shape
    return {
        "width": width,
        "heads": _heads(width, "text", spec),
        "layers": _depth(weights, "transformer", spec),
        "context_length": weights["positional_embedding"].shape[0],
        "vocab_size": vocabulary,
        "mlp_ratio": _ratio(weights, "transformer", width),
    }


def _heads(width: int, tower: str, spec: str) -> int:
    if width % HEAD_WIDTH:
        raise ValueError(
            f"the {tower} width of `{spec}` should be a multiple of {HEAD_WIDTH}, the head width of all CLIPs in "
            f"OpenAI's layout; got {width}. Name another architecture: open_clip:ARCHITECTURE@FILE."
        )
    return width // HEAD_WIDTH


def _depth(weights: Mapping[str, Tensor], prefix: str, spec: str) -> int:
    start = f"{prefix}.resblocks."
    layers = {name.removeprefix(start).partition(".")[0] for name in weights if name.startswith(start)}
    if not layers:
        raise ValueError(f"`{spec}` holds no blocks `{start}…`. Export the whole state dict.")
    return len(layers)


def _ratio(weights: Mapping[str, Tensor], prefix: str, width: int) -> float:
    """Hidden units per unit of width; the half keeps int(width · ratio) exact."""
    hidden = weights.get(f"{prefix}.resblocks.0.mlp.c_fc.weight")
    return 4.0 if hidden is None else (hidden.shape[0] + 0.5) / width


def _tokenizer(text: Mapping[str, Any]) -> Any:
    import open_clip

    tokenizer = open_clip.SimpleTokenizer(context_length=text["context_length"])
    if tokenizer.vocab_size != text["vocab_size"]:
        raise ValueError(
            f"the token table has {text['vocab_size']} rows, but CLIP's vocabulary has {tokenizer.vocab_size}: these "
            "weights were trained with another tokenizer, which a bare state dict does not name"
        )
    return tokenizer
