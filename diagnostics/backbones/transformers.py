"""Models in transformers' layout, from a folder with config.json and weights: the image tower by timm's module."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.checkpoint import joined_notes
from diagnostics.backbones.openclip import OpenClipTimmBackbone, TextTower
from diagnostics.backbones.timm import timm_backbone
from diagnostics.backbones.transformers_names import OTHER_TOWER, SCALES
from diagnostics.backbones.transformers_text import TwoTowers, folder_tokenizer
from diagnostics.backbones.transformers_tower import Tower, checked_family, image_tower
from diagnostics.backbones.weights import read_checkpoint

CONFIG, IMAGES = "config.json", "preprocessor_config.json"
# In the order in which transformers looks for them.
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"


def folder_backbone(folder: Path, config: Mapping[str, Any], spec: str, *, weights: Path | None = None) -> Backbone:
    """The backbone of a folder that `save_pretrained` wrote, or the hub's client fetched; nothing is fetched here.

    `weights` is a file of weights in place of the folder's. Raises ValueError for a model that can't run, and for
    weights that are missing or do not fit.
    """
    checked_family(config, spec)
    state, chosen = _weights(folder, spec) if weights is None else read_checkpoint(weights)
    images = folder / IMAGES
    stated = dict(json.loads(images.read_text(encoding="utf-8"))) if images.is_file() else {}
    text = (config.get("text_config") or {}).get("max_position_embeddings")
    length = int(text or len(state.get("text_model.embeddings.position_embedding.weight", ())))
    return state_backbone(
        state, config, spec, images=stated, make_tokenizer=lambda: folder_tokenizer(folder, length), note=chosen
    )


def state_backbone(
    state: Mapping[str, Tensor],
    config: Mapping[str, Any],
    spec: str,
    *,
    images: Mapping[str, Any],
    make_tokenizer: Callable[[], Any],
    shared: bool = False,
    note: str = "",
) -> Backbone:
    """The backbone over weights under transformers' names; `images` is preprocessor_config.json, or empty."""
    tower = image_tower(config, state, spec, shared=shared)
    mean, std = normalization(images, tower)
    note = joined_notes(note, tower.note)
    text = {name: weight for name, weight in state.items() if name.startswith(OTHER_TOWER)}
    if not text and tower.projection is None and not tower.family.text:
        backbone: Backbone = timm_backbone(tower.trunk, spec, mean=mean, std=std, note=note)
    else:
        backbone = _two_towers(
            tower,
            text,
            state,
            config,
            spec,
            mean=mean,
            std=std,
            note=note,
            make_tokenizer=make_tokenizer,
            shared=shared,
        )
    backbone.positions = tower.family.positions
    return backbone


def normalization(images: Mapping[str, Any], tower: Tower) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of RGB in [0, 1] as preprocessor_config.json says, or those of the family."""
    if images.get("do_normalize") is False:
        return (0.0,) * 3, (1.0,) * 3
    mean, std = (images.get(name) for name in ("image_mean", "image_std"))
    return tuple(mean or tower.family.images[0]), tuple(std or tower.family.images[1])


def _two_towers(
    tower: Tower,
    text: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    config: Mapping[str, Any],
    spec: str,
    *,
    make_tokenizer: Callable[[], Any],
    shared: bool,
    **fields: Any,
) -> Backbone:
    visual = nn.Module()
    visual.trunk, visual.head = tower.trunk, nn.Identity()
    if tower.projection is not None:
        with torch.device("meta"):
            visual.head = nn.Linear(tower.projection.shape[1], tower.projection.shape[0], bias=False)
        projection = tower.projection if shared else tower.projection.float()
        visual.head.load_state_dict({"weight": projection}, assign=True)
    scales = {name: state[name] for name in SCALES if name in state}
    if not shared:
        text = {name: weight.float() for name, weight in text.items()}
        scales = {name: scale.float() for name, scale in scales.items()}
    settings = {**(config.get("text_config") or {})}
    if "projection_dim" in config:
        settings["projection_dim"] = config["projection_dim"]
    model = TwoTowers(visual, text, scales, kind=tower.family.text, config=settings)
    words = TextTower(model, make_tokenizer, spec) if text else None
    return OpenClipTimmBackbone(model, spec=spec, text=words, **fields)


def _weights(folder: Path, spec: str) -> tuple[dict[str, Tensor], str]:
    """All weights of the folder, of one file or of several that an index names."""
    for name in WEIGHTS:
        if (folder / name).is_file():
            return read_checkpoint(folder / name)
        index = folder / f"{name}{INDEX}"
        if index.is_file():
            state: dict[str, Tensor] = {}
            files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            for file in files:
                if Path(file).name != file:
                    raise ValueError(f"`{index}` should name files beside it; it names `{file}`.")
                state |= read_checkpoint(folder / file).weights
            return state, ""
    raise ValueError(f"`{spec}` holds no weights: {folder} should have {' or '.join(WEIGHTS)}. Fetch it whole.")
