"""The shape of `pocket`, as open_clip takes it, and the empty model in open_clip's own classes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.openclip import clip_backbone
from diagnostics.backbones.pocket.tokenizer import tokenizer

ARCHITECTURE = "ViT-pocket-8"
CONFIG = Path(__file__).parent / f"{ARCHITECTURE}.json"


@cache
def register() -> None:
    """Makes ARCHITECTURE a name among open_clip's own: open_clip.create_model(ARCHITECTURE) builds it."""
    import open_clip

    open_clip.add_model_config(CONFIG)


def build_model() -> Any:
    """The model with the weights that open_clip's constructors draw from the global generator."""
    import open_clip

    register()
    return open_clip.CLIP(**open_clip.get_model_config(ARCHITECTURE))


def pocket_backbone(model: Any, *, spec: str = "pocket", note: str = "") -> Backbone:
    """The adapter over such a model, with its tokenizer. Puts the model into evaluation mode, without gradients."""
    import open_clip

    return clip_backbone(
        model,
        spec=spec,
        mean=open_clip.OPENAI_DATASET_MEAN,
        std=open_clip.OPENAI_DATASET_STD,
        make_tokenizer=tokenizer,
        note=note,
    )
