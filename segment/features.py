"""Dense features of a method for a folder of images, in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

import diagnostics
from diagnostics.backbones.base import Backbone
from diagnostics.images.feed import Loader, first_alike, list_images
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.studies.dense_tokens import Features
from segment.encoders.encode_many import encode_many
from segment.method import Method
from segment.methods import METHODS
from segment.segmenter import IMAGES_TO_FIT

# The options of a run that the features of a method heed.
USES = frozenset({"size", "batch", "positions", "strict", "progress"})


def encode_images(
    backbone: Backbone,
    images: Any,
    method: str | Method,
    *,
    out: str | Path,
    prefix: bool = False,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> dict[str, str]:
    """Writes a method's dense features of every image into one safetensors file; returns the images left out.

    One tensor (rows, cols, E) an image under its name: after the final norm and projection, before L2 normalization.
    With `prefix` also the class token (1, E) as NAME/prefix. Whole images, no windows. Keywords, or `options`, are
    those of RunOptions: `size`, `batch`, `positions`, `strict`, `progress`; an interrupted run resumes as that of
    diagnostics.encode does. A detector that learns does so on the first images, done or not.
    """
    options = run_options("encode_images", options, keywords, uses=USES)
    positions = options.positions
    chosen = METHODS.build(method)
    # The whole encoder goes into the name: a run resumes only with the same settings.
    name = f"{chosen.spec} {chosen.encoder!r} positions={positions or chosen.positions}"
    if chosen.learns:
        images = list(images) if isinstance(images, Iterator) else images
        listed = list_images(images, options.size_for(backbone.native_size), strict=options.strict)
        loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=options.strict)
        with torch.no_grad():
            chosen = chosen.fitted(backbone, first_alike(loader, IMAGES_TO_FIT).to(backbone.device))

    def make(pixels: Tensor) -> tuple[Tensor, Tensor]:
        (encoding,) = encode_many(backbone, pixels, [chosen], positions=positions)
        special = encoding.patches[:, :0] if encoding.class_token is None else encoding.class_token[:, None]
        return encoding.layout.to_map(encoding.patches), special

    features = Features(name, make, (chosen.encoder,))
    return diagnostics.encode(backbone, images, out=out, prefix=prefix, features=features, options=options)
