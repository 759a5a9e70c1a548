"""One window through a method, before a long run: whether it can run at all, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from attention_outliers.papers.plan import Group
from attention_outliers.papers.row_errors import reason_of
from diagnostics.backbones import Backbone
from diagnostics.images import as_size
from segment.decoding.windows import Span, WindowGrid
from segment.encoders.encode_many import encode_many
from segment.evaluation.job import under_protocol
from segment.evaluation.protocols import Protocol
from segment.method import Method, TextFeatures

# Width and height of an image as most of these data sets have them (COCO), where no other is at hand.
USUAL = (640, 480)


class Trial(NamedTuple):
    """What came of it: the methods that run, by their spec in the table; and why the others don't."""

    methods: dict[str, Method]
    refused: dict[str, str]


def windows_of(protocol: Protocol, native: tuple[int, int], image: tuple[int, int] = USUAL) -> WindowGrid:
    """The windows of an image of (width, height) under a protocol, for a model of `native` (height, width)."""
    if protocol.scored == "crop":
        side = as_size(str(protocol.size)).short or min(native)
        return WindowGrid((side, side), (Span(0, side),), (Span(0, side),))
    size = protocol.windows.shown(native) if protocol.size is None else as_size(protocol.size)
    return protocol.windows.places(size.of(*image), native)


def random_windows(backbone: Backbone, group: Group, count: int = 1) -> Tensor:
    """Windows of noise in the size that the protocol has: (count, 3, h, w), on the backbone's device."""
    height, width = windows_of(group.protocol_value(), backbone.native_size).window
    noise = torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))
    return noise.to(backbone.device)


def halves(images: Tensor) -> Tensor:
    """Label maps in the place of true ones for images (B, 3, h, w): 0 on the left, 1 on the right."""
    labels = torch.zeros(len(images), *images.shape[-2:], dtype=torch.int64, device=images.device)
    labels[..., images.shape[-1] // 2 :] = 1
    return labels


def try_methods(backbone: Backbone, methods: Sequence[str], group: Group) -> Trial:
    """Encodes and scores one window by each method; what a method refuses, or lacks, is reported and not raised."""
    protocol, images = group.protocol_value(), random_windows(backbone, group)
    fine, refused = {}, {}
    for spec in methods:
        try:
            method = under_protocol(group.named(spec), protocol)
            with torch.no_grad():
                ready = method.fitted(backbone, images)
                (encoding,) = encode_many(backbone, images, [ready], labels=halves(images))
                pad, (height, width) = encoding.padding, images.shape[-2:]
                size = (height + pad.top + pad.bottom, width + pad.left + pad.right)
                ready.scorer(encoding, _two_words(encoding.patches.shape[-1], backbone), size)
        except Exception as error:
            refused[spec] = reason_of(error)
        else:
            fine[spec] = method
    return Trial(fine, refused)


def seconds_per_window(backbone: Backbone, methods: Sequence[Method], images: Tensor) -> float:
    """Seconds of one forward of all methods over windows (B, 3, h, w), for one window; after one to warm up."""
    labels = halves(images)
    encode_many(backbone, images, methods, labels=labels)
    _wait(backbone)
    started = time.monotonic()
    encode_many(backbone, images, methods, labels=labels)
    _wait(backbone)
    return (time.monotonic() - started) / len(images)


def _wait(backbone: Backbone) -> None:
    if backbone.device.type == "cuda":
        torch.cuda.synchronize(backbone.device)


def _two_words(width: int, backbone: Backbone) -> TextFeatures:
    features = torch.eye(2, width, device=backbone.device)
    return TextFeatures(features=features, owners=torch.arange(2, device=backbone.device), names=("one", "another"))
