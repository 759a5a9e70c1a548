"""Dense features of many methods from one stock forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.images.label_maps import patch_labels
from diagnostics.taps import EachLayer, Recording, resolve_layer
from segment.method import Activations, Encoding, Method, TapSite, TextFeatures
from segment.methods import METHODS


def encode_many(
    backbone: Backbone,
    images: Tensor,
    methods: Sequence[str | Method],
    *,
    positions: str | None = None,
    labels: Tensor | None = None,
    text: TextFeatures | None = None,
) -> list[Encoding]:
    """Dense features of every method, in their order: normalized images (B, 3, h, w) -> Encodings.

    The stock forward runs once for all methods, up to the last layer that one of them needs; once more for each other
    way to stretch the position table, where the images' grid is not the model's own and `positions` does not name one
    way for all. Raises ValueError for a method that can't run on this backbone or size, or that reads words where there
    are none.

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
    labels : Tensor (B, h, w) or None
        True label maps of the images, whole numbers from 0, for methods that look at them.
    text : TextFeatures or None
        The words, from `ao.text_features`; only methods that read them while they make features (`resclip`) need them.

    Returns
    -------
    list of Encoding
        `patches` (B, N, E) before L2 normalization, `layout` and more, for each method.

    Raises
    ------
    ValueError
        For a method that can not run on this backbone or size, lacks true labels, or reads words and has none.

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
        reason = reason or backbone.lacking(name for name, _ in part.encoder.needs(backbone.depth))
        if reason:
            raise ValueError(f"`{part.spec}` can't run on `{backbone.spec}`: {reason}.")
        if part.encoder.reads_words and text is None:
            raise ValueError(
                f"`{part.spec}` compares patches with words while it makes features, and there are none. Give them: "
                "encode_many(…, text=text_features(backbone, words)), or choose settings that need no words: "
                f"{part.encoder.without_words}."
            )
    check_labels(parts, labels is not None)
    truth = None if labels is None else true_patches(labels, images, backbone.patch_size)
    native = layout.grid == backbone.native_grid
    stretched = [None if native else positions or part.positions or backbone.positions for part in parts]
    encodings: list[Encoding | None] = [None] * len(parts)
    with torch.no_grad():
        for how in dict.fromkeys(stretched):
            chosen = [number for number, way in enumerate(stretched) if way == how]
            together = [parts[number] for number in chosen]
            activations = stock_forward(backbone, images, together, positions=how, labels=truth, text=text)
            for number in chosen:
                encodings[number] = parts[number].encoder(activations)
    return [encoding for encoding in encodings if encoding is not None]


def check_labels(methods: Sequence[Method], are_there: bool) -> None:
    """Refuses methods that look at the true labels where there are none."""
    for method in methods:
        if method.encoder.uses_labels and not are_there:
            raise ValueError(
                f"`{method.spec}` looks at the true labels of an image. Run it where there are some: "
                "`outliers evaluate` or `outliers reproduce`; in Python, give `labels`."
            )


def true_patches(labels: Tensor, images: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """The true label of each patch: (B, h, w) of the images (B, 3, h, w) -> (B, N) int64, on the images' device.

    The most frequent value of its pixels, the smallest of equals. Unscored pixels have a value like others, and padding
    none.
    """
    if labels.shape != (len(images), *images.shape[-2:]):
        raise ValueError(
            f"`labels` should be a map for each image, {(len(images), *images.shape[-2:])}; got {tuple(labels.shape)}."
        )
    return patch_labels(labels, patch_size, ignore=()).to(images.device)


def stock_forward(
    backbone: Backbone,
    images: Tensor,
    methods: Sequence[Method],
    *,
    positions: str | None = None,
    labels: Tensor | None = None,
    text: TextFeatures | None = None,
) -> Activations:
    """One forward pass over normalized images (B, 3, h, w) that keeps what the methods need.

    `labels` (B, N): the true label of each patch, or None.
    """
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
    recording, layout = Recording(depth, values), backbone.layout(images)
    return Activations(backbone, images, layout, recording, labels, text=text, positions=positions)
