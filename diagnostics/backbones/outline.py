"""The few numbers of a backbone that say its blocks and how many tokens an image makes, read without its weights."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Patch (height, width) in pixels, prefix tokens, width D, heads H and blocks L, named as those of a Backbone."""

    spec: str
    patch_size: tuple[int, int]
    prefix: int
    class_index: int | None
    width: int
    heads: int
    depth: int


def outline_of(spec: str) -> Outline | None:
    """The outline of the backbone that a spec names; None where it takes the weights to tell, or the spec is wrong."""
    family, _, argument = spec.strip().partition(":")
    reader = {"pocket": _pocket, "tiny": _tiny, "timm": _timm, "open_clip": _open_clip}.get(family)
    try:
        return None if reader is None else reader(spec.strip(), argument)
    except (ValueError, KeyError, TypeError, ImportError, RuntimeError):
        return None  # loading it says what is wrong


def _pocket(spec: str, _: str) -> Outline:
    import json

    from diagnostics.backbones.pocket.architecture import CONFIG

    return _of_vision(spec, json.loads(CONFIG.read_text())["vision_cfg"])


def _tiny(spec: str, argument: str) -> Outline:
    from diagnostics.backbones.tiny import load_tiny

    built = load_tiny(argument)  # milliseconds
    return Outline(
        spec=spec,
        patch_size=built.patch_size,
        prefix=built.prefix,
        class_index=built.class_index,
        width=built.width,
        heads=built.heads,
        depth=built.depth,
    )


def _timm(spec: str, argument: str) -> Outline:
    from diagnostics.backbones.timm import TimmTower, meta_model

    tower = TimmTower(meta_model(argument.partition("@")[0]), spec)
    return Outline(
        spec=spec,
        patch_size=tower.patch_size,
        prefix=tower.prefix,
        class_index=tower.class_index,
        width=tower.width,
        heads=tower.blocks[0].heads,
        depth=len(tower.blocks),
    )


def _open_clip(spec: str, argument: str) -> Outline | None:
    import open_clip

    config = open_clip.get_model_config(re.split("[/@]", argument, maxsplit=1)[0])
    vision = {} if config is None else config["vision_cfg"]
    if "timm_model_name" in vision:
        return _timm(spec, vision["timm_model_name"])
    return _of_vision(spec, vision)


def _of_vision(spec: str, vision: dict[str, int]) -> Outline:
    """From open_clip's configuration of an image tower that is a plain ViT with a class token."""
    side, width = vision["patch_size"], vision["width"]
    heads = width // vision.get("head_width", 64)
    return Outline(
        spec=spec,
        patch_size=(side, side),
        prefix=1,
        class_index=0,
        width=width,
        heads=heads,
        depth=vision["layers"],
    )
