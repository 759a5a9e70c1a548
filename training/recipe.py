"""What the weights of `pocket` depend on: sizes, rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

SIZE = 112  # of images, in pixels: the model's own


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the weights depend on. All numbers are our choice, found on the way.

    The `sizes` of images take turns, batch by batch. Those of the model's own size go through `class_features`, with
    `drop_patches` of the patches left out, which more than halves the time (after arXiv:2212.00794), and with
    `drop_branch`, the chance, sample by sample, that the class token passes the last block without its residual, and
    likewise without the FFN, so that the meaning ends up in the values that attention mixes. Smaller ones go through
    `packed_features`, which takes `alike`: a caption then speaks of a few patches, which teaches the patches.
    The rate is flat after `warmup` steps and falls to zero in the last part of the run, `decay`.
    """

    steps: int = 800
    batch: int = 128
    rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.4
    weight_decay: float = 0.05
    sizes: tuple[int, ...] = (SIZE, 32, 56, 32)
    drop_patches: float = 0.6
    drop_branch: float = 0.5
    alike: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        # So that each batch of small images fills a grid: as many as there are windows of the smallest size.
        least = (SIZE // min(self.sizes)) ** 2
        if self.batch < least:
            raise ValueError(f"`batch` should be at least {least}, which fill an image of {SIZE}; got {self.batch}.")

    def size(self, step: int) -> int:
        """Height and width in pixels of the images of a step's batch."""
        return self.sizes[step % len(self.sizes)]


def rate_at(progress: float, step: int, recipe: Recipe) -> float:
    """The learning rate: up in `warmup` steps, flat, and down to zero along half a cosine; progress in 0…1."""
    falling = max(0.0, (progress - 1 + recipe.decay) / recipe.decay) if recipe.decay else 0.0
    return recipe.rate * min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))
