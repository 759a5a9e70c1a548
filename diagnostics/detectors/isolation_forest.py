"""Isolation forest: how few random cuts it takes to set a patch apart from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from diagnostics.detectors.base import ThresholdDetector
from diagnostics.detectors.features import TokenTap, patch_features, score_each
from diagnostics.layout import Layout
from diagnostics.taps import Recording


@dataclass(frozen=True, kw_only=True)
class IsolationForest(ThresholdDetector):
    """Marks patches that few random cuts set apart: scikit-learn's isolation forest, one for each image.

    Score: minus scikit-learn's `score_samples`, in (0, 1]; no unit. Seeded: the same image has the same scores. Runs
    on the CPU, in tenths of a second an image. An image with a nan or infinite value has nan scores and no outliers.
    Source: Liu, Ting and Zhou, Isolation forest, ICDM 2008; scikit-learn's defaults.

    Extreme values: at most 1, for entries up to 1e37; 0.5 where all are equal. In bf16 up to 30 % of the marks differ,
    as random cuts fall elsewhere; the scores' rank correlation is 0.95 or more (docs/half-precision.md).
    """

    published: ClassVar[str] = (
        "threshold 0.5: scikit-learn's contamination='auto'. Liu et al., Sec 2: near 1 is an outlier, and where all "
        "are about 0.5 there is none."
    )
    trees: int = 100  # scikit-learn's default and Liu et al., Sec 5
    seed: int = 0
    threshold: float = 0.5  # scikit-learn's offset for contamination="auto"
    tap: TokenTap = "block_out"

    def __post_init__(self) -> None:
        if self.trees < 1:
            raise ValueError(f"`trees` should be at least 1, such as 100; got {self.trees}.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"`threshold` should be from 0 to 1, such as 0.5; got {self.threshold}.")

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.tap,)

    def unsupported_reason(self, layout: Layout) -> str | None:
        return None if layout.count > 1 else f"{layout.count} patch can't be set apart. Take a larger image"

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        return score_each(patch_features(recording, layout, self.tap), self._scores)

    def _scores(self, patches: np.ndarray) -> np.ndarray:
        from sklearn import ensemble

        forest = ensemble.IsolationForest(n_estimators=self.trees, random_state=self.seed).fit(patches)
        return -np.asarray(forest.score_samples(patches))
