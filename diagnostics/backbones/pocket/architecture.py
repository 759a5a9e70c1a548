"""The shape of `pocket`, the empty model in this package's own classes, and its name among open_clip's."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.clip_model import PlainClip, plain_backbone
from diagnostics.backbones.pocket.tokenizer import tokenizer

ARCHITECTURE = "ViT-pocket-8"
CONFIG = Path(__file__).parent / f"{ARCHITECTURE}.json"


@cache
def register() -> None:
    """Makes ARCHITECTURE a name among open_clip's own: open_clip.create_model(ARCHITECTURE) builds it."""
    import open_clip

    open_clip.add_model_config(CONFIG)


def build_model() -> PlainClip:
    """The model with starting weights drawn from the global generator, the same that open_clip draws."""
    config: dict[str, Any] = json.loads(CONFIG.read_text(encoding="utf-8"))
    vision = dict(config["vision_cfg"])
    vision["heads"] = vision["width"] // vision.pop("head_width")
    return PlainClip(config["embed_dim"], vision=vision, text=config["text_cfg"])


def pocket_backbone(model: nn.Module, *, spec: str = "pocket", note: str = "") -> Backbone:
    """The adapter over such a model, with its tokenizer. Puts the model into evaluation mode, without gradients."""
    return plain_backbone(model, spec=spec, make_tokenizer=tokenizer, note=note)
