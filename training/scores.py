"""Scores of a model trained on `shapes`: captions retrieved, close-ups named, label maps by several methods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.images import normalize
from segment.datasets.shapes import NAMES, Scene, Shapes, caption, close_up
from segment.encoders.encode_many import encode_many

# All our choice: the words around a class, the methods, and how many captions an image's own one stands among.
PROMPTS = ("a picture of a {}", "a photo of a {}.", "a {}", "a photo of the {}.")
METHODS = ("clip", "maskclip", "sclip", "clearclip", "clearclip:kernel=kk", "clearclip:kernel=identity")
AMONG = 128
BATCH = 50


def scores_of(backbone: Backbone, *, scenes: int = 500, methods: Sequence[str] = METHODS) -> dict[str, float]:
    """All scores, by name: `retrieval`, `zero-shot`, and the mIoU of each method."""
    shares = {"retrieval": retrieval(backbone, scenes=max(scenes, 200)), "zero-shot": zero_shot(backbone)}
    return shares | mean_ious(backbone, scenes=scenes, methods=methods)


def retrieval(backbone: Backbone, *, scenes: int = 500) -> float:
    """Share of validation scenes whose own caption is the best among AMONG different ones.

    Scenes are taken in their order into groups without a repeated caption; an unfinished group at the end is left out,
    unless it is the only one.
    """
    data, hits, total = Shapes(scenes=scenes), 0, 0
    group: dict[str, np.ndarray] = {}
    for number in range(scenes):
        scene = data.scene(number)
        group.setdefault(words_of(scene), scene.image)
        if len(group) == AMONG or (number == scenes - 1 and not total):
            texts = F.normalize(backbone.encode_text(list(group)), dim=-1)
            best = (class_tokens(backbone, list(group.values())) @ texts.T).argmax(dim=1).cpu()
            hits, total = hits + int((best == torch.arange(len(group))).sum()), total + len(group)
            group = {}
    return hits / total


def zero_shot(backbone: Backbone, *, images: int = 320) -> float:
    """Share of images filled by one class whose class token is nearest to that class's words, of all 16."""
    scenes = [close_up(number) for number in range(images)]
    truth = torch.tensor([int(scene.labels[0, 0]) for scene in scenes])
    similarity = class_tokens(backbone, [scene.image for scene in scenes]) @ class_rows(backbone).T
    return float((similarity.argmax(dim=1).cpu() == truth).float().mean())


def mean_ious(backbone: Backbone, *, scenes: int = 500, methods: Sequence[str] = METHODS) -> dict[str, float]:
    """mIoU over all 16 classes and all pixels of the first validation scenes, for each method.

    The cosines of the patches are stretched bilinearly to the image, and each pixel gets its best class.
    """
    data, rows = Shapes(scenes=scenes), class_rows(backbone)
    counts = {method: torch.zeros(len(NAMES), len(NAMES), dtype=torch.long) for method in methods}
    for first in range(0, scenes, BATCH):
        samples = [data[number] for number in range(first, min(first + BATCH, scenes))]
        images = as_input(backbone, [sample.image for sample in samples])
        labels = torch.from_numpy(np.stack([sample.labels for sample in samples])).long()
        for method, encoding in zip(methods, encode_many(backbone, images, methods), strict=True):
            cosines = encoding.layout.to_map(F.normalize(encoding.patches.float(), dim=-1) @ rows.T)
            maps = F.interpolate(cosines.permute(0, 3, 1, 2), labels.shape[1:], mode="bilinear", align_corners=False)
            pairs = labels * len(NAMES) + maps.argmax(dim=1).cpu()
            counts[method] += torch.bincount(pairs.flatten(), minlength=len(NAMES) ** 2).view(len(NAMES), -1)
    return {method: mean_iou(table) for method, table in counts.items()}


def mean_iou(counts: Tensor) -> float:
    """Mean intersection over union, (C, C) counts, rows true and columns predicted; classes in neither are left out."""
    hits, union = counts.diag().double(), (counts.sum(0) + counts.sum(1) - counts.diag()).double()
    return float((hits[union > 0] / union[union > 0]).mean())


def words_of(scene: Scene) -> str:
    """A scene's caption in its plainest form."""
    return f"a picture of {caption(scene.kinds, scene.backgrounds)}"


def as_input(backbone: Backbone, images: Sequence[np.ndarray]) -> Tensor:
    """(h, w, 3) uint8 images of one size -> normalized (B, 3, h, w)."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(backbone.device).float() / 255
    return normalize(stacked, backbone.mean, backbone.std)


def class_tokens(backbone: Backbone, images: Sequence[np.ndarray]) -> Tensor:
    """Unit features of whole images: (B, E)."""
    with torch.no_grad():
        parts = [backbone(as_input(backbone, images[at : at + BATCH])) for at in range(0, len(images), BATCH)]
        return F.normalize(torch.cat(parts).float(), dim=-1)


def class_rows(backbone: Backbone) -> Tensor:
    """Unit features of the classes' words, mean over PROMPTS: (C, E)."""
    with torch.no_grad():
        parts = [backbone.encode_text([prompt.format(name) for name in NAMES]) for prompt in PROMPTS]
        rows: Tensor = F.normalize(torch.stack([F.normalize(part, dim=-1) for part in parts]).mean(dim=0), dim=-1)
        return rows
