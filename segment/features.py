"""Dense features of a method for a folder of images, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import diagnostics
from diagnostics.backbones.base import Backbone
from diagnostics.images.feed import Loader, first_alike, list_images, size_for
from diagnostics.studies.dense_tokens import Features
from segment.encoders.encode_many import encode_many
from segment.method import Method
from segment.methods import METHODS
from segment.segmenter import IMAGES_TO_FIT, learns


def encode_images(
    backbone: Backbone,
    images: Any,
    method: str | Method,
    *,
    out: str | Path,
    positions: str | None = None,
    **options: Any,
) -> dict[str, str]:
    """Writes a method's dense features of every image into one safetensors file; returns the images left out.

    One tensor (rows, cols, E) an image under its name: after the final norm and projection, before L2 normalization.
    With `prefix` also the class token (1, E) as NAME/prefix. Whole images, no windows. Other options, and how a
    stopped run goes on, as diagnostics.encode. A detector that learns does so on the first images, done or not.
    """
    chosen = METHODS.build(method)
    # The whole encoder goes into the name: a run goes on only with the same settings.
    name = f"{chosen.spec} {chosen.encoder!r} positions={positions or chosen.positions}"
    if learns(chosen):
        images = list(images) if isinstance(images, Iterator) else images
        strict = bool(options.get("strict", False))
        listed = list_images(images, size_for(backbone, options.get("size")), strict=strict)
        loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=strict)
        with torch.no_grad():
            chosen = chosen.fitted(backbone, first_alike(loader, IMAGES_TO_FIT).to(backbone.device))

    def make(pixels: Tensor) -> tuple[Tensor, Tensor]:
        (encoding,) = encode_many(backbone, pixels, [chosen], positions=positions)
        special = encoding.patches[:, :0] if encoding.class_token is None else encoding.class_token[:, None]
        return encoding.layout.to_map(encoding.patches), special

    options |= {"positions": positions, "features": Features(name, make)}
    return diagnostics.encode(backbone, images, out=out, **options)
