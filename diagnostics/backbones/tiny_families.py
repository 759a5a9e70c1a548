"""Families of vision transformers in miniature, in timm's layout: one small model of each, for `tiny:kind=…`."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from torch import nn

Kind = Literal[
    "plain", "rotary", "rotary-mixed", "post-norm", "relative-bias", "parallel", "differential", "conv-stem", "naflex"
]


def timm_model(kind: Kind, registers: int, shape: dict[str, Any]) -> nn.Module:
    """A model of the family; `shape` holds what all classes take: img_size, patch_size, embed_dim, depth, …

    ValueError where the family does not go with the settings.
    """
    if kind in ("rotary", "rotary-mixed", "post-norm"):
        return _eva(kind, registers, shape)
    if kind == "relative-bias":
        from timm.models.vision_transformer_relpos import VisionTransformerRelPos

        if registers:
            raise ValueError("backbone `tiny` with `kind=relative-bias` has no registers; leave them out.")
        return VisionTransformerRelPos(**shape, rel_pos_type="bias", init_values=1.0)
    if kind == "naflex":
        from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg

        side = shape["img_size"] // shape["patch_size"]
        settings = {name: value for name, value in shape.items() if name not in ("img_size", "num_classes")}
        described = NaFlexVitCfg(**settings, reg_tokens=registers, pos_embed_grid_size=(side, side))
        return NaFlexVit(described, num_classes=shape["num_classes"])
    from timm.models.vision_transformer import VisionTransformer

    # Registers without rows in the position table, as in DINOv2 with registers.
    return VisionTransformer(**shape | _parts(kind, shape), reg_tokens=registers, no_embed_class=registers > 0)


def _eva(kind: Kind, registers: int, shape: dict[str, Any]) -> nn.Module:
    from timm.models.eva import Eva

    more: dict[str, Any] = {"num_reg_tokens": registers, "use_rot_pos_emb": True, "no_embed_class": registers > 0}
    if kind == "rotary":
        # As DINOv3: no other positions, pairs of channels far apart, layer scale, coordinates from -1 to 1.
        more |= {"use_abs_pos_emb": False, "rope_type": "dinov3", "rope_rotate_half": True, "rope_temperature": 100.0}
        more |= {"init_values": 1.0}
    elif kind == "rotary-mixed":
        more |= {"attn_type": "rope", "rope_type": "mixed", "rope_grid_indexing": "xy"}
    else:
        more |= {"use_post_norm": True, "swiglu_mlp": True, "scale_mlp": True}
    return Eva(**shape | more)


def _parts(kind: Kind, shape: dict[str, Any]) -> dict[str, Any]:
    """What sets a family apart that timm builds from its plain class."""
    if kind == "parallel":
        from timm.models.vision_transformer import ParallelScalingBlock

        return {"block_fn": ParallelScalingBlock}
    if kind == "differential":
        return {"attn_layer": "diff"}
    if kind == "conv-stem":
        return _conv_stem(shape)
    return {}


def _conv_stem(shape: dict[str, Any]) -> dict[str, Any]:
    """Two convolutions as in MobileCLIP: one that overlaps, then one that makes a token of each patch."""
    from timm.layers import HybridEmbed
    from timm.models.vision_transformer_hybrid import ConvStem

    patch, width = shape["patch_size"], shape["embed_dim"]
    if patch % 2:
        raise ValueError(f"`patch` of backbone `tiny` with `kind=conv-stem` should be even; got {patch}.")
    half = patch // 2
    stem = ConvStem(channels=(width // 2, width), stride=(2, half), kernel_size=(3, half), padding=(1, 0), depth=2)
    return {"embed_layer": partial(HybridEmbed, backbone=stem, proj=False), "patch_size": 1}
