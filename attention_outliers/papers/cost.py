"""What a method costs: multiplications by a counter, parameters, and images per second by a clock."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from attention_outliers.papers.plan import Group
from attention_outliers.papers.trial import USUAL, halves, random_windows
from diagnostics.backbones import Backbone
from segment.encoders.encode_many import encode_many
from segment.encoders.second_backbone import SecondBackbone
from segment.evaluation.job import segmenter_of, under_protocol
from segment.method import Encoder, TextFeatures

# Classes of COCO-Object, on which SC-CLIP's Table 9 was made, and the seconds that are measured. Seconds: our choice.
CLASSES, SECONDS = 81, 3.0


class Cost(NamedTuple):
    """`gflops`: 10^9 multiply-adds of one window; `params`: 10^6 parameters; `fps`: images a second."""

    gflops: float
    params: float
    fps: float


def cost_of(backbone: Backbone, method: str, group: Group, *, batch: int = 8, seconds: float = SECONDS) -> Cost:
    """The cost of a method under a protocol.

    Multiply-adds are those of one window of the protocol's size through the image tower and the method's own steps
    (what torch's counter says, halved, since papers count a multiplication with its addition as one). Parameters are
    those of the backbone, text tower included, and of a second one where the method has it. Images are of `USUAL`
    size with 81 words, one after another, with all but reading files: windows, merging and labels.
    """
    part = under_protocol(group.named(method), group.protocol_value())
    images = random_windows(backbone, group)
    # Fused attention is an operation of its own on each device, not all of which the counter knows.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        (encoding,) = encode_many(backbone, images, [part], labels=halves(images))
    words = F.normalize(torch.randn(CLASSES, encoding.patches.shape[-1], generator=torch.Generator().manual_seed(0)))
    text = TextFeatures(
        features=words.to(backbone.device),
        owners=torch.arange(CLASSES, device=backbone.device),
        names=tuple(map(str, range(CLASSES))),
        background=0,
    )
    segmenter = segmenter_of(backbone, (group.named(method),), text, group.protocol_value(), batch=batch)
    noise = np.random.default_rng(0).integers(0, 256, (USUAL[1], USUAL[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    truth = np.zeros((USUAL[1], USUAL[0]), np.int64)
    next(segmenter(image, labels=lambda name: truth))  # to warm up
    started, done = time.monotonic(), 0
    while done < 1 or time.monotonic() - started < seconds:
        next(segmenter(image, labels=lambda name: truth))
        done += 1
    fps = done / (time.monotonic() - started)
    return Cost(counter.get_total_flops() / 2e9, _parameters(backbone, part.encoder) / 1e6, fps)


def _parameters(backbone: Backbone, encoder: Encoder) -> int:
    second = getattr(encoder, "second", None)
    models = [backbone.model]
    if isinstance(second, SecondBackbone) and not second.shared:
        models.append(second.load(backbone).model)
    return sum(weights.numel() for model in models for weights in model.parameters())
