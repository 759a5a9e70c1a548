"""What a detector is: a frozen value that scores the patches of one layer and, apart from that, marks outliers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self, final

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.layout import Layout
from diagnostics.taps import Recording


class Outliers(NamedTuple):
    """What a detector says of one layer: scores (B, N), higher is more outlying, and mask (B, N) bool."""

    scores: Tensor
    mask: Tensor


class Detector(ABC):
    """Which patches are outliers? Settings are fields; calling changes nothing.

    `needs` are the taps of the layer in question. `published` says where the default threshold is from and what models
    and layers it was published for. `quota` is True where a fixed number is marked, outliers or none. A part derives
    from this interface.
    """

    published: ClassVar[str]
    quota: ClassVar[bool] = False

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Taps of the layer in question."""

    def unsupported_reason(self, layout: Layout) -> str | None:
        """Why this detector can't run on such tokens (no class token, too few patches), or None if it can."""
        return None

    @property
    def learns(self) -> bool:
        """Whether `fitted` makes something else of it, for which images or weights have to be at hand."""
        return type(self).fitted is not Detector.fitted

    def fitted(self, backbone: Backbone, images: Tensor, layer: int) -> Self:
        """The detector made ready for a backbone and a layer, where it learns from weights or from images.

        `images`: normalized images (B, 3, h, w) to learn from. Most detectors need neither and return themselves.
        """
        return self

    def fitted_to(self, backbone: Backbone, images: Tensor, layers: Iterable[int]) -> dict[int, Self]:
        """`fitted` for several layers, 1…L or negative as they were given; a part may share work between them."""
        return {layer: self.fitted(backbone, images, layer) for layer in layers}

    @abstractmethod
    def score(self, recording: Recording, layout: Layout) -> Tensor:
        """Scores in fp32 from a recording of one layer: (B, N), higher is more outlying."""

    @abstractmethod
    def mark(self, scores: Tensor) -> Tensor:
        """Which scores are outliers by the detector's own threshold: (B, N) -> (B, N) bool. Each image on its own."""

    @final
    def __call__(self, recording: Recording, layout: Layout) -> Outliers:
        """Score and mark in one, after the checks."""
        reason = self.unsupported_reason(layout)
        if reason:
            raise ValueError(f"{self} can't run here: {reason}.")
        threshold = getattr(self, "threshold", None)
        if isinstance(threshold, float) and math.isnan(threshold):
            raise ValueError(f"`threshold` of {type(self).__name__} should be a number; got nan.")
        scores = self.score(recording, layout)
        return Outliers(scores, self.mark(scores))


class ThresholdDetector(Detector):
    """A detector that marks every score above `threshold`, so that thresholds can be swept."""

    threshold: float

    def mark(self, scores: Tensor) -> Tensor:
        return scores > self.threshold

    @final
    def at(self, threshold: float) -> Self:
        """The same detector with another threshold."""
        changed: Any = replace(self, threshold=float(threshold))  # type: ignore[type-var]
        return changed


def largest(scores: Tensor, count: int) -> Tensor:
    """Mask of the `count` largest scores of each image, all of them where there are fewer: (B, N) -> (B, N) bool.

    Of equal scores the first patches in row-major order are taken, so exactly `count` are marked. nan is never marked.
    """
    count = max(0, min(count, scores.shape[1]))
    broken = scores.isnan()
    order = scores.masked_fill(broken, -torch.inf).argsort(dim=1, descending=True, stable=True)[:, :count]
    return scores.new_zeros(scores.shape, dtype=torch.bool).scatter(1, order, True) & ~broken
