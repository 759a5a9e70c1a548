"""Dense features of many methods from one stock forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.taps import EachLayer, Recording, resolve_layer
from segment.method import Activations, Encoding, Method, TapSite
from segment.methods import METHODS


def encode_many(
    backbone: Backbone, images: Tensor, methods: Sequence[str | Method], *, positions: str | None = None
) -> list[Encoding]:
    """Dense features of every method, in their order: normalized images (B, 3, h, w) -> Encodings.

    The stock forward runs once for all methods, up to the last layer that one of them needs; once more for each other
    way to stretch the position table, where the images' grid is not the model's own and `positions` does not name one
    way for all. Raises ValueError for a method that can't run on this backbone or size.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : Tensor (B, 3, h, w)
        Normalized images, from `ao.load_image`.
    methods : str, Method, or list of them
        Specs such as `"sc-clip:detector=som"`, or methods.
    positions : str or None
        Interpolation of positional embeddings, a name of `ao.POSITIONS`; None takes the backbone's own.

    Returns
    -------
    list of Encoding
        `patches` (B, N, E) before L2 normalization, `layout` and more, for each method.

    Raises
    ------
    ValueError
        For a method that can not run on this backbone or size.

    Examples
    --------
    >>> import torch
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny")
    >>> clip, clearclip = ao.encode_many(backbone, torch.zeros(1, 3, 64, 64), ["clip", "clearclip"])
    >>> clearclip.layout.to_map(clearclip.patches).shape[:3]
    torch.Size([1, 4, 4])
    """
    parts = [METHODS.build(method) for method in methods]
    if not parts:
        raise ValueError(f"`methods` should name at least one method; known: {', '.join(METHODS)}.")
    layout = backbone.layout(images)
    for part in parts:
        reason = part.encoder.unsupported_reason(backbone, layout)
        if reason:
            raise ValueError(f"`{part.spec}` can't run on `{backbone.spec}`: {reason}.")
    native = layout.grid == backbone.native_grid
    stretched = [None if native else positions or part.positions or backbone.positions for part in parts]
    encodings: list[Encoding | None] = [None] * len(parts)
    with torch.no_grad():
        for how in dict.fromkeys(stretched):
            chosen = [number for number, way in enumerate(stretched) if way == how]
            activations = stock_forward(backbone, images, [parts[number] for number in chosen], positions=how)
            for number in chosen:
                encodings[number] = parts[number].encoder(activations)
    return [encoding for encoding in encodings if encoding is not None]


def stock_forward(
    backbone: Backbone, images: Tensor, methods: Sequence[Method], *, positions: str | None = None
) -> Activations:
    """One forward pass over normalized images (B, 3, h, w) that keeps what the methods need."""
    depth = backbone.depth
    places = {(name, resolve_layer(layer, depth)) for method in methods for name, layer in method.encoder.needs(depth)}
    needs: dict[int, list[str]] = {}
    for name, layer in places:
        needs.setdefault(layer, []).append(name)
    values: dict[TapSite, Tensor] = {}

    def keep(layer: int, recording: Recording) -> None:
        values.update({place: value for place, value in recording.values.items() if place in places})

    tap = EachLayer(needs, keep)
    backbone.trunk(images, stop=max(needs, default=0), tap=tap, positions=positions)
    return Activations(backbone, images, backbone.layout(images), Recording(depth, values))
