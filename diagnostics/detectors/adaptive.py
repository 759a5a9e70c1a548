"""A threshold for any detector's scores, found in the scores of each image instead of fixed by a constant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors.base import Detector
from diagnostics.detectors.features import image_median
from diagnostics.layout import Layout
from diagnostics.memory import HoldsPairs
from diagnostics.registry import Registry, spec_name
from diagnostics.taps import Recording

Rule = Literal["otsu", "mad", "mixture", "knee"]

# Iglewicz and Hoaglin, How to detect and handle outliers, 1993, Sec 3.3: 3.5 spreads from the median. The factors make
# the median, or the mean, absolute deviation of a Gaussian its standard deviation.
SPREADS, MEDIAN_TO_SPREAD, MEAN_TO_SPREAD = 3.5, 1.4826, 1.2533
EM_STEPS = 100  # our choice: one-dimensional, started at Otsu's split; it stands still long before
EM_FLOOR = 1e-3  # our choice: least spread of a component, in spreads of all scores, so that none shrinks to one score


def robust_spread(scores: Tensor) -> Tensor:
    """Standard deviation as the median absolute deviation tells it: (B, N) -> (B, 1).

    From the mean absolute deviation where more than half of the scores are equal, for the median one is 0 then.
    """
    deviations = (scores - image_median(scores)).abs()
    median = MEDIAN_TO_SPREAD * image_median(deviations)
    return torch.where(median > 0, median, MEAN_TO_SPREAD * deviations.mean(dim=1, keepdim=True))


def otsu(scores: Tensor) -> Tensor:
    """Scores above the split with the largest variance between its two sides: (B, N) -> (B, N) bool.

    Exact, over the sorted scores, without a histogram; equal scores stay together, and none is above where all are
    equal. A single score beside N - 1 Gaussian ones wins over cutting these in half only from 0.8 √N spreads on.
    Source: Otsu, IEEE Trans. SMC 9 (1979), Eq 14-18.
    """
    ordered, count = scores.sort(dim=1).values, scores.shape[1]
    if count < 2:
        return torch.zeros_like(scores, dtype=torch.bool)
    below = torch.arange(1, count, device=scores.device)
    total = ordered.cumsum(dim=1)
    low, high = total[:, :-1] / below, (total[:, -1:] - total[:, :-1]) / (count - below)
    between = below * (count - below) * (high - low).square()
    best = between.where(ordered[:, 1:] > ordered[:, :-1], -1.0).argmax(dim=1, keepdim=True)
    return scores > ordered.gather(1, best).where((ordered[:, :1] < ordered[:, -1:]), torch.inf)


def mad(scores: Tensor) -> Tensor:
    """Scores more than 3.5 robust spreads above the median: (B, N) -> (B, N) bool.

    Source: Iglewicz and Hoaglin, How to detect and handle outliers, 1993, Sec 3.3; one-sided, since a detector's low
    scores are ordinary.
    """
    return scores > image_median(scores) + SPREADS * robust_spread(scores)


def mixture(scores: Tensor) -> Tensor:
    """Scores that the upper of two Gaussians explains better: (B, N) -> (B, N) bool.

    Fitted by expectation-maximization from Otsu's split; above means more than half of the posterior, and above the
    lower mean. None where all scores are equal. Source: Dempster, Laird and Rubin, JRSS B 39 (1977).
    """
    spread = scores.std(dim=1, keepdim=True, correction=0)
    values = (scores - scores.mean(dim=1, keepdim=True)) / spread.where(spread > 0, 1.0)
    share = torch.stack([~otsu(scores), otsu(scores)], dim=1).to(values.dtype)  # (B, 2, N)
    center = values.new_zeros(len(values), 2, 1)
    for _ in range(EM_STEPS):
        weight = share.sum(dim=2, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
        center = (share * values[:, None]).sum(dim=2, keepdim=True) / weight
        variance = (share * (values[:, None] - center).square()).sum(dim=2, keepdim=True) / weight + EM_FLOOR**2
        logs = weight.log() - 0.5 * variance.log() - 0.5 * (values[:, None] - center).square() / variance
        share = logs.softmax(dim=1)
    upper = center.argmax(dim=1, keepdim=True)
    posterior = share.gather(1, upper.expand(-1, 1, values.shape[1]))[:, 0]
    return (posterior > 0.5) & (values > center.amin(dim=1)) & (spread > 0)


def knee(scores: Tensor) -> Tensor:
    """Scores above the knee of the falling curve of sorted scores: (B, N) -> (B, N) bool.

    The knee is the point furthest below the chord from the largest score to the least, both axes scaled to [0, 1].
    None where no point is below the chord. Source: Satopää et al., Kneedle, ICDCS workshops 2011, without smoothing.
    """
    ordered, count = scores.sort(dim=1, descending=True).values, scores.shape[1]
    top, bottom = ordered[:, :1], ordered[:, -1:]
    rank = torch.linspace(0, 1, count, dtype=scores.dtype, device=scores.device)
    below = 1 - rank - (ordered - bottom) / (top - bottom).where(top > bottom, 1.0)
    depth, place = below.max(dim=1, keepdim=True)
    # Rounding alone puts the points of a straight line below their chord.
    return scores > ordered.gather(1, place).where((depth > 1e-9) & (top > bottom), torch.inf)


RULES: dict[str, Callable[[Tensor], Tensor]] = {"otsu": otsu, "mad": mad, "mixture": mixture, "knee": knee}


@dataclass(frozen=True, kw_only=True)
class Adaptive(Detector):
    """Puts a threshold without a constant on another detector's scores: `adaptive:detector=relative-norm,rule=otsu`.

    Score: the inner detector's; unit is its own. Rules, each on the scores of one image: `otsu` (the split with the
    largest variance between), `mad` (3.5 robust spreads above the median), `mixture` (the upper of two Gaussians),
    `knee` (before the bend of the sorted scores).

    These rules split anything in two, also a single population with a tail. So what they mark counts only down to the
    lowest gap among the marked that is at least `gap` robust spreads of all scores wide, and not at all if there is no
    such gap, or if more than the share `most` would be left. With `gap=0` the rule's own cut stays. Otsu, mixture and
    knee also have to stand apart: the mean of the marked lies `separation` robust spreads of the others above the
    others' median. An image without outliers then has few or none.

    `log` looks at the logarithm, for scores above 0 with a heavy tail; 0 and below count as the least score above 0. An
    infinite score counts as the largest finite one; an image with a NaN score has no outliers. Settings of the inner
    detector go in brackets: `detector=lof(neighbors=10)`.

    Extreme values: see the inner detector; where all scores are equal nothing is marked. In bf16 up to 4 % of the marks
    differ, where the cut has patches close to it; the scores' rank correlation is 0.999 or more
    (docs/half-precision.md).
    """

    published: ClassVar[str] = (
        "otsu: Otsu 1979; mad: Iglewicz and Hoaglin 1993; mixture: Dempster et al. 1977; knee: Satopää et al. 2011. "
        "None for tokens of a transformer; what counts as standing apart, by gap, share and separation, is our choice."
    )
    detector: str = "relative-norm"
    rule: Rule = "otsu"
    log: bool = False
    # Our choice. Of 196 Gaussian or uniform scores the two sides were at most 4 apart by this yardstick, in 200 draws;
    # of exponential ones often more, so a heavy tail wants `log`.
    separation: float = 5.0
    # Our choice, both. By relative norms of 10 images of VOC 2012 at 224, the rules mark something in 15 to 79 of 120
    # images and layers of DINOv2-S/14, which has no norm outliers; with these two in 2, one patch each. The outliers of
    # ViT-Ti/16 at layers 8 to 12 stay marked: gaps of a hundred spreads lie below them.
    gap: float = 5.0
    most: float = 0.25
    fitted_detector: Detector | None = None  # what `fitted` puts here

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"`rule` should be one of {', '.join(RULES)}; got `{self.rule}`.")
        if not self.separation >= 0:
            raise ValueError(f"`separation` should be at least 0 robust spreads, such as 5; got {self.separation}.")
        if not self.gap >= 0:
            raise ValueError(f"`gap` should be at least 0 robust spreads, such as 5; got {self.gap}.")
        if not 0 < self.most <= 1:
            raise ValueError(f"`most` should be a share of the patches above 0, at most 1; got {self.most}.")
        if spec_name(self.detector) == "adaptive":
            raise ValueError(
                "`detector` should name another detector; `adaptive` in `adaptive` has no scores to split."
            )

    @property
    def inner(self) -> Detector:
        """The detector whose scores are split. An unknown name raises ValueError with the known ones."""
        if self.fitted_detector is not None:
            return self.fitted_detector
        # Here and not above: the registry imports this file.
        from diagnostics.detectors import DETECTORS

        registry: Registry[type[Detector]] = DETECTORS
        built: Detector = registry.build(self.detector)
        return built

    @property
    def needs(self) -> tuple[str, ...]:
        return self.inner.needs

    def unsupported_reason(self, layout: Layout) -> str | None:
        return self.inner.unsupported_reason(layout)

    def least_bytes(self, layout: Layout, heads: int) -> int:
        """What the detector that makes the scores holds."""
        return self.inner.least_bytes(layout, heads) if isinstance(self.inner, HoldsPairs) else 0

    def fitted(self, backbone: Backbone, images: Tensor, layer: int) -> Self:
        return replace(self, fitted_detector=self.inner.fitted(backbone, images, layer))

    def fitted_to(self, backbone: Backbone, images: Tensor, layers: Iterable[int]) -> dict[int, Self]:
        inner = self.inner.fitted_to(backbone, images, layers)
        return {layer: replace(self, fitted_detector=part) for layer, part in inner.items()}

    def score(self, recording: Recording, layout: Layout) -> Tensor:
        return self.inner.score(recording, layout)

    def mark(self, scores: Tensor) -> Tensor:
        damaged = scores.isnan().any(dim=1, keepdim=True)
        values = _within_finite(scores.double().masked_fill(damaged, 0.0))
        if self.log:
            least = values.where(values > 0, torch.inf).amin(dim=1, keepdim=True)
            values = values.maximum(least.where(least.isfinite(), 1.0)).log()
        mask = RULES[self.rule](values)
        if self.gap:
            mask = above_gap(values, mask, self.gap)
        mask = mask & (mask.sum(dim=1, keepdim=True) <= self.most * mask.shape[1])
        if self.rule != "mad":  # which has a yardstick of its own
            mask = mask & stands_apart(values, mask, self.separation)
        return mask & ~damaged


def above_gap(scores: Tensor, mask: Tensor, gap: float) -> Tensor:
    """Marked scores above the lowest wide gap below a marked score: (B, N), (B, N) bool -> (B, N) bool.

    Wide: at least `gap` robust spreads of all scores, and more than 0. None where no gap is wide.
    """
    ordered = scores.sort(dim=1).values
    steps = ordered.diff(dim=1)
    lowest = scores.where(mask, torch.inf).amin(dim=1, keepdim=True)
    wide = (steps >= gap * robust_spread(scores)) & (steps > 0) & (ordered[:, 1:] >= lowest)
    line = ordered[:, 1:].where(wide, torch.inf).amin(dim=1, keepdim=True) if scores.shape[1] > 1 else torch.inf
    return mask & (scores >= line)


def stands_apart(scores: Tensor, mask: Tensor, separation: float) -> Tensor:
    """Whether the marked scores are some, not all, and far above the others: (B, N), (B, N) bool -> (B, 1) bool.

    Far: `separation` robust spreads of the others lie between their median and the mean of the marked ones. True where
    the others are all equal.
    """
    apart = torch.zeros(len(scores), 1, dtype=torch.bool, device=scores.device)
    for number, (values, marked) in enumerate(zip(scores, mask, strict=True)):
        if not 0 < int(marked.sum()) < len(values):
            continue
        others = values[~marked][None]
        gap = values[marked].mean() - image_median(others)
        apart[number] = gap[0] > separation * robust_spread(others)[0]
    return apart


def _within_finite(scores: Tensor) -> Tensor:
    """Infinite scores become the image's largest or least finite one: (B, N) -> (B, N)."""
    finite = scores.isfinite()
    top = scores.where(finite, -torch.inf).amax(dim=1, keepdim=True)
    bottom = scores.where(finite, torch.inf).amin(dim=1, keepdim=True)
    has_finite = finite.any(dim=1, keepdim=True)
    return scores.clamp(min=bottom.where(has_finite, 0.0), max=top.where(has_finite, 0.0))
