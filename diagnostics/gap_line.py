"""A line between ordinary scores and outliers: where the scores of many images have a gap, and none where they don't.

Scores carry over from model to model, thresholds do not. So the line is looked for in the scores of the images at hand,
against what the tail of one population would do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import betainc

Answer = Literal["gap", "none", "too few images"]

# So many images that a gap in each of them would decide, if any number did. Our choice.
ENOUGH_IMAGES = 100


@dataclass(frozen=True, kw_only=True)
class Line:
    """What `GapLine` says of the scores of one layer.

    `answer`: `gap`, `none`, or `too few images`, where the gap would decide if as many images again had it.
    `threshold`: scores above it are outliers; None without a gap. `candidate`: where the line would be, if
    more images had the gap. `width`: the gap in tail scales. `false_alarm`: how
    often one population would have such a gap, times the layers looked at. `low` and `high`: the gap's edges, in the
    unit of the scores. `images`: how many have a score above the gap; `marked`: how many scores are above the
    threshold.
    """

    answer: Answer
    threshold: float | None = None
    candidate: float | None = None
    width: float = 0.0
    false_alarm: float = 1.0
    low: float | None = None
    high: float | None = None
    images: int = 0
    marked: int = 0


class _Tail(NamedTuple):
    """The upper scores of all images, largest first.

    `median` of all scores; `scores`; `logs` of their excess over it; `images`: how many images have one of the first
    1, 2, … scores.
    """

    median: float
    scores: np.ndarray
    logs: np.ndarray
    images: np.ndarray


@dataclass(frozen=True, kw_only=True)
class GapLine:
    """Puts a line where the pooled scores of many images have a gap, or none where one population explains them.

    On the logarithm of the score's excess over the median, one population has a tail that falls at least as fast as an
    exponential: normal, log-normal and exponential scores faster, power laws (Pareto, t) just so. Its scale, the tail
    scale, is the mean excess over the gap's lower edge of the `tail` share of scores below it. Of the scores above
    that edge, e^-width lie further away than `width` tail scales. A gap turns this round: at least 1 - `strays` of
    them do (less one standard error, so that a few images have to be clearer than many). Two checks:

    - `width`: at most the share `strays` of the scores above the lower edge lie within so many tail scales of it;
    - `alpha`: one population of independent images would leave so wide a gap with this probability at most, over all
      places of the gap and all layers. Patches of an image depend on each other, so each image counts once.

    At most the share `most` of all scores lie above. Within the gap, the line is in the middle of the emptiest band
    (on the same logarithm); where outliers reach down to it by `left` of them or less, it moves up to midway, in
    logarithms, between the median and the typical outlier, for what lies between is nearer to ordinary.
    Nothing depends on the unit of the scores, and no setting is a property of a model.

    Source: ours. Mean excess as the scale of a tail: Hill, Ann. Statist. 3 (1975).
    """

    alpha: float = 0.01
    width: float = 1.75  # our choice: of one population's tail, 17 % lie further away, of outliers 90 %
    strays: float = 0.1  # our choice
    tail: float = 0.1  # our choice: enough scores for a steady scale, still the tail
    most: float = 0.25  # our choice: outliers are a minority
    left: float = 0.015  # our choice

    def __post_init__(self) -> None:
        for name in ("alpha", "strays", "tail", "most", "left"):
            value = getattr(self, name)
            if not 0 < value < 0.5:
                raise ValueError(f"`{name}` should be a share above 0 and below 0.5; got {value}.")
        if not self.width > 0:
            raise ValueError(f"`width` should be above 0 tail scales, such as 1.75; got {self.width}.")

    def __call__(self, scores: np.ndarray, *, layers: int = 1) -> Line:
        """The line for scores (images, patches) of one layer, NaN where an image has no such patch.

        `layers`: how many are looked at in this way, which share the false alarms. Infinite scores count as the
        largest finite one. A ValueError where there is no score at all.
        """
        tail = _tail_of(scores, self)
        if tail is None:
            return Line(answer="none")
        count, size = tail.scores.size, int(np.isfinite(scores).sum())
        above = np.arange(1, max(int(self.most * size), 1) + 1)  # scores above the lower edge
        below = max(5, int(self.tail * size))
        above = above[above + below < count]
        if not above.size:
            return Line(answer="none")
        sums = np.concatenate([[0.0], tail.logs.cumsum()])
        scale = (sums[above + below] - sums[above]) / below - tail.logs[above + below]
        spread = np.sqrt(self.strays * (1 - self.strays) * above)
        inside = np.maximum(0, self.strays * above - spread).astype(int)
        widths = (tail.logs[above - inside - 1] - tail.logs[above]) / np.maximum(scale, 1e-9)
        images = tail.images[above - inside - 1]
        chances = self._chance(widths, images, inside / above, below, above.size) * layers
        wide = widths >= self.width
        place = _lowest_gap(tail.logs, above, inside, widths, wide & (chances <= self.alpha))
        if place is not None:
            return self._drawn(tail, int(above[place]), float(widths[place]), float(chances[place]))
        if not wide.any():
            return Line(answer="none", width=float(widths.max()))
        place = int(np.where(wide, chances, np.inf).argmin())
        total = len(scores)
        more = images * max(ENOUGH_IMAGES / total, 1.0)
        decided = self._chance(widths, more, inside / above, below, above.size)[place] * layers <= self.alpha
        undecided = bool(decided and total < ENOUGH_IMAGES)
        there = self._drawn(tail, int(above[place]), float(widths[place]), float(chances[place]))
        return Line(
            answer="too few images" if undecided else "none",
            candidate=there.threshold if undecided else None,
            width=float(widths[place]),
            false_alarm=min(float(chances[place]), 1.0),
            images=int(images[place]),
        )

    def _chance(
        self, widths: np.ndarray, images: np.ndarray, strays: np.ndarray, below: int, places: int
    ) -> np.ndarray:
        """Probability of so few strays in so wide a gap, if the tail went on as it begins.

        Where `images` images reach, as many strays come up in a tail scale, on average; the scale is known from
        `below` scores. The gap may lie at 1 + ln(`places`) places that have nothing to do with each other.
        """
        expected = images * widths
        return betainc(below, images * strays + 1, below / (below + expected)) * (1 + math.log(places))

    def _drawn(self, tail: _Tail, above: int, width: float, chance: float) -> Line:
        """The line within the gap below the first `above` scores."""
        counts = np.arange(1, above + 1)
        ends = counts + (0.02 * counts).astype(int)  # our choice: a band may have one stray in fifty
        ends = np.minimum(ends, above)
        best = int((tail.logs[counts - 1] - tail.logs[ends]).argmax())
        low, high = tail.scores[ends[best]], tail.scores[best]
        line = tail.median + math.exp((tail.logs[best] + tail.logs[ends[best]]) / 2)
        outliers = tail.scores[:above][tail.scores[:above] > line]
        if tail.median > 0 and outliers.size:
            midway = math.sqrt(tail.median * float(np.median(outliers)))
            line = max(line, min(midway, float(np.quantile(outliers, self.left))))
        marked = int((tail.scores > line).sum())
        return Line(
            answer="gap",
            threshold=float(line),
            width=width,
            false_alarm=chance,
            low=float(low),
            high=float(high),
            images=int(tail.images[marked - 1]) if marked else 0,
            marked=marked,
        )


def _tail_of(scores: np.ndarray, rule: GapLine) -> _Tail | None:
    """The upper scores of (images, patches), as far as a gap is looked for; None where all are equal there."""
    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or not np.isfinite(scores).any():
        raise ValueError(f"`scores` should be (images, patches) with numbers in it; got {scores.shape} without any.")
    finite = np.isfinite(scores)
    scores = np.where(
        np.isposinf(scores), scores[finite].max(), np.where(np.isneginf(scores), scores[finite].min(), scores)
    )
    known = ~np.isnan(scores)
    owner = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)[known]
    values = scores[known]
    order = np.argsort(-values, kind="stable")
    values, owner = values[order], owner[order]
    needed = math.ceil((rule.most + rule.tail) * values.size) + 7
    median = float(np.median(values))
    excess = values - median
    if excess[0] <= 0:
        return None
    excess = np.maximum(excess, excess[excess > 0].min())[:needed]
    firsts = np.zeros(values.size, dtype=int)
    firsts[np.unique(owner, return_index=True)[1]] = 1
    return _Tail(median, values[:needed], np.log(excess), firsts.cumsum()[:needed])


def _lowest_gap(
    logs: np.ndarray, above: np.ndarray, inside: np.ndarray, widths: np.ndarray, chosen: np.ndarray
) -> int | None:
    """The widest among the chosen gaps that overlap with the lowest of them; None without any."""
    places = np.flatnonzero(chosen)[::-1]
    if not places.size:
        return None
    tops = np.maximum.accumulate(logs[above[places] - inside[places] - 1])
    apart = np.flatnonzero(logs[above[places[1:]]] >= tops[:-1])
    group = places[: apart[0] + 1] if apart.size else places
    return int(group[widths[group].argmax()])
