"""Dense features of a method for a folder of pictures, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import diagnostics
from diagnostics.backbones.base import Backbone
from diagnostics.images.feed import Loader, first_alike, list_pictures, size_for
from diagnostics.studies.dense_tokens import Features
from segment.encoders.encode_many import encode_many
from segment.method import Method
from segment.methods import METHODS
from segment.segmenter import PICTURES_TO_FIT, learns


def encode_pictures(
    backbone: Backbone,
    pictures: Any,
    method: str | Method,
    *,
    out: str | Path,
    positions: str | None = None,
    **options: Any,
) -> dict[str, str]:
    """Writes a method's dense features of every picture into one safetensors file; returns the pictures left out.

    One tensor (rows, cols, E) a picture under its name: after the final norm and projection, before L2 normalisation.
    With `prefix` also the class token (1, E) as NAME/prefix. Whole pictures, no windows. Other options, and how a
    stopped run goes on, as diagnostics.encode. A detector that learns does so on the first pictures, done or not.
    """
    chosen = METHODS.build(method)
    # The whole encoder goes into the name: a run goes on only with the same settings.
    name = f"{chosen.spec} {chosen.encoder!r} positions={positions or chosen.positions}"
    if learns(chosen):
        pictures = list(pictures) if isinstance(pictures, Iterator) else pictures
        strict = bool(options.get("strict", False))
        listed = list_pictures(pictures, size_for(backbone, options.get("size")), strict=strict)
        loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=strict)
        with torch.no_grad():
            chosen = chosen.fitted(backbone, first_alike(loader, PICTURES_TO_FIT).to(backbone.device))

    def make(images: Tensor) -> tuple[Tensor, Tensor]:
        (found,) = encode_many(backbone, images, [chosen], positions=positions)
        special = found.patches[:, :0] if found.class_token is None else found.class_token[:, None]
        return found.layout.to_map(found.patches), special

    options |= {"positions": positions, "features": Features(name, make)}
    return diagnostics.encode(backbone, pictures, out=out, **options)
