"""The names of weights in transformers' layout, old and new, as timm has them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

# What stands before the image tower's names in models with a head or a second tower.
ROOTS = re.compile(r"^(?:vision_model|vit|deit|dinov2|dinov2_with_registers|dinov3_vit|beit)\.")
# Beside the image tower of a two-tower model.
OTHER_TOWER = ("text_model.", "text_projection.")
SCALES = ("logit_scale", "logit_bias")
# Weights without a part in the features: what masks patches in training, and numbers of places.
UNUSED = re.compile(r"(?:^|\.)(?:mask_token|position_ids|relative_position_index)$")
# Outside the blocks: transformers' name -> timm's. Of several spellings, each is some version's or family's.
OUTSIDE = {
    r"embeddings\.(?:class_embedding|cls_token)": "cls_token",
    r"embeddings\.register_tokens": "reg_token",
    r"embeddings\.distillation_token": "dist_token",
    r"embeddings\.(?:position_embedding\.weight|position_embeddings)": "pos_embed",
    r"embeddings\.patch_embeddings?(?:\.projection)?\.(weight|bias)": r"patch_embed.proj.\1",
    r"pre_layr?norm\.(\w+)|pre_layernorm\.(\w+)": r"norm_pre.\1\2",
    r"(?:post_layernorm|layernorm|norm)\.(\w+)": r"norm.\1",
    r"pooler\.layernorm\.(\w+)": r"fc_norm.\1",
    r"(?:classifier|cls_classifier)\.(\w+)": r"head.\1",
    r"distillation_classifier\.(\w+)": r"head_dist.\1",
    r"(?:encoder\.relative_position_bias|shared_position_bias)\.relative_position_bias_table": (
        "rel_pos_bias.relative_position_bias_table"
    ),
    r"visual_projection\.weight": "projection.weight",
    r"pooler\.dense\.(\w+)": r"pooler.\1",
    # The attention pool of SigLIP.
    r"head\.probe": "attn_pool.latent",
    r"head\.attention\.in_proj_(\w+)": r"attn_pool.in_proj.\1",
    r"head\.attention\.out_proj\.(\w+)": r"attn_pool.proj.\1",
    r"head\.layernorm\.(\w+)": r"attn_pool.norm.\1",
    r"head\.mlp\.(fc[12])\.(\w+)": r"attn_pool.mlp.\1.\2",
}
BLOCK = re.compile(r"^(?:model\.)?(?:encoder\.)?layers?\.(\d+)\.(.+)$")
INSIDE = {
    r"(?:layer_norm1|layernorm_before|norm1)\.(\w+)": r"norm1.\1",
    r"(?:layer_norm2|layernorm_after|norm2)\.(\w+)": r"norm2.\1",
    r"(?:self_attn|attention)\.q_proj\.(\w+)|attention\.attention\.query\.(\w+)": r"attn.q.\1\2",
    r"(?:self_attn|attention)\.k_proj\.(\w+)|attention\.attention\.key\.(\w+)": r"attn.k.\1\2",
    r"(?:self_attn|attention)\.v_proj\.(\w+)|attention\.attention\.value\.(\w+)": r"attn.v.\1\2",
    r"self_attn\.out_proj\.(\w+)|attention\.output\.dense\.(\w+)|attention\.o_proj\.(\w+)": r"attn.proj.\1\2\3",
    r"mlp\.fc1\.(\w+)|intermediate\.dense\.(\w+)": r"mlp.fc1.\1\2",
    r"mlp\.(?:fc2|weights_out|down_proj)\.(\w+)|output\.dense\.(\w+)": r"mlp.fc2.\1\2",
    r"mlp\.weights_in\.(\w+)": r"mlp.packed.\1",
    r"mlp\.gate_proj\.(\w+)": r"mlp.gate.\1",
    r"mlp\.up_proj\.(\w+)": r"mlp.up.\1",
    r"layer_scale1\.lambda1|lambda_1": "ls1.gamma",
    r"layer_scale2\.lambda1|lambda_2": "ls2.gamma",
    r"attention\.(?:attention\.)?relative_position_bias\.relative_position_bias_table|"
    r"relative_position_bias\.relative_position_bias_table": "attn.relative_position_bias_table",
}


def instead_for(weights: Mapping[str, Tensor], usual: str) -> str:
    """What to do with a file that does not fit: its folder, if it is in transformers' layout; else the usual."""
    marks = ("embeddings.patch_embedding", "encoder.layer", "vision_model.")
    if any(mark in name for name in weights for mark in marks):
        return (
            "The file is in transformers' layout: put config.json (and the tokenizer's files) beside it and name the "
            "folder, local-dir:FOLDER, or the file in it, local-dir:FOLDER/FILE."
        )
    return usual


def image_names(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The image tower's weights under timm's names, queries, keys and values apart; and the names that are unknown.

    Weights of another tower, and those without a part in the features, are left out.
    """
    named: dict[str, Tensor] = {}
    unknown = []
    for name, weight in weights.items():
        if name.startswith(OTHER_TOWER) or name in SCALES or UNUSED.search(name):
            continue
        ours = _name(ROOTS.sub("", name))
        if ours is None:
            unknown.append(name)
        else:
            named[ours] = weight
    return named, unknown


def _name(name: str) -> str | None:
    block = BLOCK.match(name)
    rules, rest, before = (INSIDE, block[2], f"blocks.{block[1]}.") if block else (OUTSIDE, name, "")
    for rule, ours in rules.items():
        match = re.fullmatch(rule, rest)
        if match:
            return before + re.sub(r"\\(\d)", lambda place: match[int(place[1])] or "", ours)  # noqa: B023
    return None
