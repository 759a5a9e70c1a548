"""The image tower of a model in transformers' layout, as the timm module of the same architecture."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from diagnostics.backbones.checkpoint import joined_notes
from diagnostics.backbones.transformers_names import image_names
from diagnostics.backbones.weights import check_fit, fill, first_names
from diagnostics.registry import unknown_name

OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, kw_only=True)
class Family:
    """What a config.json of this `model_type` may leave out: the defaults of transformers' own configuration class.

    `images` are mean and std where no preprocessor_config.json says others; `positions` names the interpolation of
    positional embeddings in transformers' forward. Source: transformers 5, configuration_*.py and modeling_*.py.
    """

    heads: int = 12
    patch: int = 16
    activation: str = "gelu"
    eps: float = 1e-6
    images: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    positions: str = "bicubic"
    text: str = ""


_CLIP = Family(patch=32, activation="quick_gelu", eps=1e-5, images=OPENAI, text="CLIPTextModelWithProjection")
_SIGLIP = Family(activation="gelu_pytorch_tanh", images=HALF, text="SiglipTextModel")
_VIT = Family(eps=1e-12, images=HALF)
FAMILIES = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "metaclip_2": Family(
        patch=32, activation="quick_gelu", eps=1e-5, images=OPENAI, text="MetaClip2TextModelWithProjection"
    ),
    "metaclip_2_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "siglip2": Family(
        activation="gelu_pytorch_tanh", images=HALF, positions="bilinear-antialiased", text="Siglip2TextModel"
    ),
    "siglip2_vision_model": Family(activation="gelu_pytorch_tanh", images=HALF, positions="bilinear-antialiased"),
    "dinov2": Family(patch=14),
    "dinov2_with_registers": Family(positions="bicubic-antialiased"),
    "dinov3_vit": Family(heads=6, eps=1e-5),
    "vit": _VIT,
    "deit": Family(eps=1e-12),
    "beit": _VIT,
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_pytorch_tanh": partial(nn.GELU, approximate="tanh"),
    "gelu_new": partial(nn.GELU, approximate="tanh"),
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "relu": nn.ReLU,
}
# Why a class that people do have is refused, and what works instead.
REASONS = {
    "swin": "attention is windowed and the grid shrinks between stages",
    "swinv2": "attention is windowed and the grid shrinks between stages",
    "hiera": "tokens are pooled between stages: they do not keep one grid",
    "sam": "attention is windowed, with relative positions inside it",
    "convnext": "it is a convolutional network: it has no tokens",
    "convnextv2": "it is a convolutional network: it has no tokens",
    "resnet": "it is a convolutional network: it has no tokens",
    "dinov3_convnext": "it is a convolutional network: it has no tokens",
    "vit_mae": "its decoder is not read here; timm has the encoder: timm:vit_base_patch16_224.mae",
    "qwen2_vl": "its image tower takes packed patches of many images",
    "qwen2_5_vl": "its image tower takes packed patches of many images",
    "llava": "it is a language model around an image tower: load that tower's own repository",
}


class Joined(nn.Module):
    """Linear maps of one input, side by side: what another layout keeps as one. The maps themselves are shared."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.parts], dim=-1)


@dataclass(frozen=True, kw_only=True)
class Tower:
    """A timm module with weights; the projection behind it, if any; what should be known of it."""

    trunk: nn.Module
    projection: Tensor | None
    family: Family
    note: str


def image_tower(config: Mapping[str, Any], weights: Mapping[str, Tensor], spec: str, *, shared: bool = False) -> Tower:
    """The image tower from config.json and the weights under transformers' names.

    `shared` keeps the tensors themselves as weights, none copied, so queries, keys and values stay apart. Raises
    ValueError for a `model_type` that can't run, with the reason, and for weights that do not fit.
    """
    kind = str(config.get("model_type", ""))
    family = checked_family(config, spec)
    vision = {**config, **(config.get("vision_config") or {})}
    named, unknown = image_names(weights)
    if unknown:
        raise ValueError(
            f"`{spec}` holds weights that are not known in a `{kind}`: {first_names(unknown)}. Save the image model "
            "alone."
        )
    notes = [_without(named, "pooler.", "the pooler, a map behind the class token, is left out")]
    if kind.startswith("dinov2"):  # it reads class token and mean of the patches side by side
        notes.append(_without(named, "head.", "the classifier, which reads two tokens side by side, is left out"))
    projection = named.pop("projection.weight", None)
    state = _reshaped(named)
    if kind == "beit":  # keys have no bias, and timm keeps the other two beside the map
        state = {re.sub(r"\.attn\.([qv])\.bias$", r".attn.\1_bias", name): weight for name, weight in state.items()}
    joined = kind != "dinov3_vit"  # whose module of timm has queries, keys and values apart
    if joined and not shared:
        state = _fused(state)
    build = {"dinov3_vit": _rotary, "beit": _beit}.get(kind, _plain)
    trunk, state, note = build(state, vision, family, spec)
    instead = "Fetch or save the folder again: config.json and weights should be of one model."
    if shared:
        state = _apart(trunk, state) if joined else state
        check_fit(trunk, state, spec=spec, instead=instead)
        trunk.load_state_dict(state, assign=True)
    else:
        fill(trunk, state, spec=spec, instead=instead)
    return Tower(trunk=trunk, projection=projection, family=family, note=joined_notes(*notes, note))


def checked_family(config: Mapping[str, Any], spec: str) -> Family:
    """The family of a config.json; ValueError that says why another can't run, with the near names."""
    kind = str(config.get("model_type", ""))
    if kind in FAMILIES:
        return FAMILIES[kind]
    near = get_close_matches(kind, FAMILIES, n=1)
    reason = REASONS.get(kind, "its forward pass is not known here, and an unknown one is not guessed")
    raise ValueError(
        f"`{spec}` can't run: its model_type is `{kind}`: {reason}. In transformers' layout these run: "
        f"{', '.join(FAMILIES)}." + (f" Nearest: `{near[0]}`." if near else "")
    )


def _without(named: dict[str, Tensor], start: str, note: str) -> str:
    """Takes weights out; the note if there were any."""
    names = [name for name in named if name.startswith(start)]
    for name in names:
        del named[name]
    return note if names else ""


def _reshaped(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same numbers in the shapes that timm has them in; views wherever there is no sum."""
    state = dict(named)
    for name in ("cls_token", "pos_embed"):
        if name in state:
            state[name] = state[name].reshape(1, -1, state[name].shape[-1])
    kernel = state.get("patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 2:  # SigLIP2 takes the pixels of a patch as a row: rows, columns, colors
        side = math.isqrt(kernel.shape[1] // 3)
        state["patch_embed.proj.weight"] = kernel.unflatten(1, (side, side, 3)).permute(0, 3, 1, 2)
    if "reg_token" in state and not state["reg_token"].numel():
        del state["reg_token"]
    if "reg_token" in state and "pos_embed" in state:
        # Registers stand between class token and patches and have no position; timm adds the class token's in advance.
        state["cls_token"] = state["cls_token"] + state["pos_embed"][:, :1]
        state["pos_embed"] = state["pos_embed"][:, 1:]
    for end in ("weight", "bias"):
        joint = state.pop(f"attn_pool.in_proj.{end}", None)
        if joint is not None:
            width = len(joint) // 3
            state[f"attn_pool.q.{end}"], state[f"attn_pool.kv.{end}"] = joint[:width], joint[width:]
    if "dist_token" in state and "head_dist.weight" not in state:
        state["reg_token"] = state.pop("dist_token")  # a model that reads the class token alone
    return state


def _shape(state: Mapping[str, Tensor], vision: Mapping[str, Any], family: Family, spec: str) -> dict[str, Any]:
    """What all modules of timm are built with, from the weights where they say it."""
    first = state.get("blocks.0.mlp.fc2.weight")
    if first is None or "patch_embed.proj.weight" not in state:
        raise ValueError(f"`{spec}` holds no image tower in transformers' layout; found {first_names(state)}.")
    width, hidden = first.shape
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    kernel = state["patch_embed.proj.weight"].shape
    activation = vision.get("hidden_act", family.activation)
    size = vision.get("image_size", 224)
    if "num_patches" in vision and "pos_embed" in state:
        size = math.isqrt(state["pos_embed"].shape[1]) * kernel[-1]
    return {
        "img_size": tuple(size) if isinstance(size, (list, tuple)) else size,
        "patch_size": (kernel[-2], kernel[-1]),
        "embed_dim": width,
        "depth": len(blocks),
        "num_heads": vision.get("num_attention_heads", family.heads),
        "mlp_ratio": (hidden + 0.5) / width,
        "norm_layer": partial(nn.LayerNorm, eps=vision.get("layer_norm_eps", family.eps)),
        "num_classes": len(state["head.weight"]) if "head.weight" in state else 0,
        "act_layer": _activation(activation),
    }


def _activation(name: str) -> Callable[[], nn.Module]:
    if name == "quick_gelu":
        from diagnostics.backbones.clip_model import QuickGELU

        return QuickGELU
    if name not in ACTIVATIONS:
        raise unknown_name("activation of transformers", name, [*ACTIVATIONS, "quick_gelu"])
    return ACTIVATIONS[name]


Built = tuple[nn.Module, dict[str, Tensor], str]


def _plain(state: dict[str, Tensor], vision: Mapping[str, Any], family: Family, spec: str) -> Built:
    """CLIP, SigLIP, DINOv2, ViT, DeiT: timm's VisionTransformer."""
    from timm.layers import GluMlp
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    shape, note = _shape(state, vision, family, spec), ""
    if _is_gated(state):
        shape |= {"mlp_layer": partial(GluMlp, gate_last=False), "act_layer": nn.SiLU}
        shape["mlp_ratio"] = (2 * state["blocks.0.mlp.fc2.weight"].shape[1] + 0.5) / shape["embed_dim"]
    pool: Any = "token" if "cls_token" in state else "map"
    if pool == "map" and "attn_pool.latent" not in state:
        pool, note = "avg", "without an attention pool: the image's feature is the mean of the patches"
        shape["fc_norm"] = False
    kind = VisionTransformer
    if "head_dist.weight" in state:
        kind = VisionTransformerDistilled
    elif "reg_token" in state:
        shape["reg_tokens"] = state["reg_token"].shape[1]
        # Rows of positions for patches alone, unless the second token (DeiT's) has one as well.
        shape["no_embed_class"] = state["pos_embed"].shape[1] == _patches(shape)
    trunk = kind(
        **shape,
        global_pool=pool,
        class_token="cls_token" in state,
        pre_norm="norm_pre.weight" in state,
        qkv_bias=any(f"blocks.0.attn.{name}.bias" in state for name in ("q", "qkv")),
        init_values=1.0 if "blocks.0.ls1.gamma" in state else None,
    )
    return trunk, state, note


def _patches(shape: Mapping[str, Any]) -> int:
    size = shape["img_size"] if isinstance(shape["img_size"], tuple) else (shape["img_size"],) * 2
    return (size[0] // shape["patch_size"][0]) * (size[1] // shape["patch_size"][1])


def _is_gated(state: Mapping[str, Tensor]) -> bool:
    """Whether the feed-forward networks are gated: one map of both halves, or one for each."""
    first, last = state.get("blocks.0.mlp.fc1.weight"), state["blocks.0.mlp.fc2.weight"]
    apart = any(name.startswith(("blocks.0.mlp.packed.", "blocks.0.mlp.gate.")) for name in state)
    return apart or (first is not None and len(first) == 2 * last.shape[1])


def _rotary(state: dict[str, Tensor], vision: Mapping[str, Any], family: Family, spec: str) -> Built:
    """DINOv3: timm's Eva with rotary positions."""
    from timm.models.eva import Eva

    gated = _is_gated(state)
    names = {
        r"\.mlp\.up\.": ".mlp.fc1_x." if gated else ".mlp.fc1.",
        r"\.mlp\.gate\.": ".mlp.fc1_g.",
        r"\.ls([12])\.gamma$": r".gamma_\1",
        r"\.attn\.([qkv])\.": r".attn.\1_proj.",
    }
    for rule, ours in names.items():
        state = {re.sub(rule, ours, name): weight for name, weight in state.items()}
    shape = _shape(state, vision, family, spec)
    activation = shape.pop("act_layer")
    base = (vision.get("rope_parameters") or {}).get("rope_theta", vision.get("rope_theta", 100.0))
    trunk = Eva(
        **shape,
        global_pool="token",
        qkv_bias=True,
        qkv_fused=False,
        swiglu_mlp=gated,
        swiglu_align_to=1,  # timm then keeps gate and value apart, as they are here
        init_values=1.0,
        num_reg_tokens=state["reg_token"].shape[1] if "reg_token" in state else 0,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type="dinov3",
        rope_temperature=base,
        rope_rotate_half=True,
        use_fc_norm=False,
    )
    for number, block in enumerate(trunk.blocks):
        for name in ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.proj"):
            _set_bias(block.get_submodule(name), f"blocks.{number}.{name}.bias" in state)
        block.get_submodule("mlp").act = activation()
    return trunk, state, ""


def _set_bias(linear: Any, wanted: bool) -> None:
    if wanted != (linear.bias is not None):
        linear.bias = nn.Parameter(torch.zeros(len(linear.weight))) if wanted else None


def _beit(state: dict[str, Tensor], vision: Mapping[str, Any], family: Family, spec: str) -> Built:
    """BEiT: timm's module of the name, with a table of relative positions in each block or one for all."""
    from timm.models.beit import Beit

    state = {re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name): weight for name, weight in state.items()}
    shape = _shape(state, vision, family, spec)
    if not isinstance(shape.pop("act_layer")(), nn.GELU):
        raise ValueError(f"`{spec}` can't run: timm's BEiT has GELU, its config.json names `{vision['hidden_act']}`.")
    table = "relative_position_bias_table"
    trunk = Beit(
        **shape,
        global_pool="avg" if "fc_norm.weight" in state else "token",
        qkv_bias="blocks.0.attn.q_bias" in state,
        init_values=1.0 if "blocks.0.gamma_1" in state else None,
        use_abs_pos_emb="pos_embed" in state,
        use_rel_pos_bias=f"blocks.0.attn.{table}" in state,
        use_shared_rel_pos_bias=f"rel_pos_bias.{table}" in state,
    )
    attention: Any
    for attention in (block.get_submodule("attn") for block in trunk.blocks):
        attention.qkv_bias_separate = True  # queries, keys and values may be maps of their own
    return trunk, state, "on other grids relative positions are stretched as timm does, not as transformers does"


# Maps of one input that timm keeps as one: its name of the whole, and ours of the parts in their order.
TOGETHER = {"attn.qkv": ("attn.q", "attn.k", "attn.v"), "mlp.fc1": ("mlp.gate", "mlp.up"), "mlp.fc1 ": ("mlp.packed",)}


def _fused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parts of a whole one below the other, as one weight."""
    fused = dict(state)
    for start in sorted({name[: name.index(".", 7) + 1] for name in state if name.startswith("blocks.")}):
        for whole, parts in TOGETHER.items():
            for end in ("weight", "bias"):
                pieces = [fused.pop(f"{start}{part}.{end}", None) for part in parts]
                present = [piece for piece in pieces if piece is not None]
                if present:
                    fused[f"{start}{whole.strip()}.{end}"] = torch.cat(present)
    return fused


def _apart(trunk: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts as maps of their own within the module, so that their weights are shared, and the names that follow."""
    renamed = dict(state)
    for number, block in enumerate(trunk.blocks):
        for whole, parts in TOGETHER.items():
            start, holder, name = f"blocks.{number}.", *whole.strip().split(".")
            if f"{start}{parts[0]}.weight" not in state:
                continue
            for place, part in enumerate(parts):
                for end in ("weight", "bias"):
                    if f"{start}{part}.{end}" in renamed:
                        renamed[f"{start}{whole.strip()}.parts.{place}.{end}"] = renamed.pop(f"{start}{part}.{end}")
            shapes = [(state[f"{start}{part}.weight"].shape, f"{start}{part}.bias" in state) for part in parts]
            with torch.device("meta"):
                maps = [nn.Linear(inputs, outputs, bias=biased) for (outputs, inputs), biased in shapes]
            setattr(getattr(block, holder), name, Joined(*maps))
    return renamed
