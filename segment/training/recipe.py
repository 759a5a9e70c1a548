"""What the weights of `pocket` depend on: sizes, rates, and the stages of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

SIZE = 112  # of pictures, in pixels: the model's own


class Stage(NamedTuple):
    """What changes in the course of a run.

    From step `start` on, the `sizes` of pictures take turns, batch by batch. Small ones are whole: a caption then
    speaks of a few patches, which teaches the patches, and costs less. `even` and `votes` as in `class_features`;
    with `packed`, small pictures go through `packed_features` instead, which takes `alike`.
    """

    start: int
    sizes: tuple[int, ...] = (SIZE,)
    even: float = 0.0
    votes: float = 0.0
    packed: bool = False
    alike: float = 0.0


TURNS = (SIZE, 32, 56, 32)
# What the shipped weights went through, each stage an answer to what the one before showed (docs/pocket.md).
SHIPPED = (
    Stage(0),
    Stage(300, (56, SIZE)),
    Stage(400, TURNS),
    Stage(600, TURNS, even=0.5),
    Stage(950, TURNS, even=0.5, votes=0.5),
    Stage(1300, TURNS, packed=True),
    Stage(1400, TURNS, packed=True, alike=0.5),
)
# The last stage from the start, which is all that it takes.
SHORT = (Stage(0, TURNS, packed=True, alike=0.5),)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the weights depend on. All numbers are our choice, found on the way.

    `drop_patches` of the patches are left out of pictures of full size, which more than halves the time, but none are
    in the last part of the run, `whole` (after arXiv:2212.00794; the shipped weights had that for 50 steps alone).
    `drop_branch` is the chance, sample by sample, that the class token passes the last block without its residual, and
    likewise without the FFN, so that the meaning ends up in the values that attention mixes. The rate is flat after
    `warmup` steps and falls to zero in the last part of the run, `decay`.
    """

    steps: int = 1600
    batch: int = 128
    rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.4
    weight_decay: float = 0.05
    drop_patches: float = 0.6
    whole: float = 0.0
    drop_branch: float = 0.5
    stages: tuple[Stage, ...] = SHIPPED
    seed: int = 0

    def stage(self, step: int) -> Stage:
        """The stage that a step is in."""
        return next(stage for stage in reversed(self.stages) if step >= stage.start)

    def size(self, step: int) -> int:
        """Height and width in pixels of the pictures of a step's batch."""
        sizes = self.stage(step).sizes
        return sizes[step % len(sizes)]


def rate_at(progress: float, step: int, recipe: Recipe) -> float:
    """The learning rate: up in `warmup` steps, flat, and down to zero along half a cosine; progress in 0…1."""
    falling = max(0.0, (progress - 1 + recipe.decay) / recipe.decay) if recipe.decay else 0.0
    return recipe.rate * min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))
