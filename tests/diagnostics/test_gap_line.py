"""A line where scores have a gap, and none where one population explains them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import f as f_distribution

from diagnostics.gap_line import GapLine


def scores(images=10, patches=80, outliers=0, at=8.0, seed=0):
    """Log-normal scores about 1; the first `outliers` of each image are about `at`."""
    generator = np.random.default_rng(seed)
    values = np.exp(0.1 * generator.normal(size=(images, patches)))
    values[:, :outliers] = at * np.exp(0.05 * generator.normal(size=(images, outliers)))
    return values


def slow_widths(values, rule):
    """Plain loops: for every lower edge, how far away the nearest 1 - strays of the scores above it begin."""
    flat = np.sort(values[np.isfinite(values)])[::-1]
    median, below = np.median(flat), max(5, int(rule.tail * flat.size))
    widths = []
    for above in range(1, int(rule.most * flat.size) + 1):
        edge = np.log(flat[above] - median)
        excesses = [
            np.log(flat[place] - median) - np.log(flat[above + below] - median) for place in range(above, above + below)
        ]
        few = int(max(0.0, rule.strays * above - np.sqrt(rule.strays * (1 - rule.strays) * above)))
        highest = np.log(flat[above - few - 1] - median)
        widths.append((highest - edge) / np.mean(excesses))
    return widths


@pytest.mark.parametrize("outliers", [1, 4, 12])
def test_outliers_of_every_image_are_those_above_the_line(outliers):
    values = scores(outliers=outliers)
    line = GapLine()(values, layers=12)
    assert line.answer == "gap"
    assert line.low < line.threshold <= line.high
    assert (values[:, :outliers] > line.threshold).all()
    assert (values[:, outliers:] < line.threshold).all()
    assert (line.images, line.marked) == (10, 10 * outliers)


def test_the_gap_is_as_wide_as_plain_loops_find_it():
    rule = GapLine()
    for outliers in (0, 2):
        values = scores(images=7, outliers=outliers, seed=outliers)
        widths = slow_widths(values, rule)
        assert rule(values).width == pytest.approx(max(widths))
    wide = [width for width in slow_widths(scores(seed=0), rule) if width >= rule.width]
    assert not wide


def test_one_gap_has_the_chance_that_the_ratio_of_two_exponential_means_has():
    # No stray: one exponential over the mean of `below` of them is an F variable, each image counting once.
    chance = GapLine()._chance(np.array([2.0]), np.array([3]), np.array([0.0]), 40, 1)
    assert chance[0] == pytest.approx(f_distribution.sf(6.0, 2, 80))


@pytest.mark.parametrize(
    "draw",
    [
        lambda generator, size: 10 + generator.normal(size=size),
        lambda generator, size: generator.lognormal(size=size),
        lambda generator, size: 10 + np.abs(generator.standard_t(3, size=size)),
        lambda generator, size: 1 + generator.pareto(2, size=size),
    ],
    ids=["normal", "log-normal", "t with 3 degrees", "Pareto with index 2"],
)
def test_one_population_has_a_line_in_at_most_one_run_in_a_hundred(draw):
    generator = np.random.default_rng(3)
    answers = [GapLine()(draw(generator, (10, 100))).answer for _ in range(100)]
    assert answers.count("gap") <= 1


def test_the_unit_of_the_scores_does_not_matter():
    values = scores(outliers=3)
    line, scaled = GapLine()(values), GapLine()(1000 * values)
    assert scaled.threshold == pytest.approx(1000 * line.threshold)
    assert scaled.width == pytest.approx(line.width)
    below_zero = GapLine()(values - 100)
    assert ((values - 100 > below_zero.threshold) == (values > line.threshold)).all()


def test_places_outside_an_image_do_not_count():
    values = scores(outliers=3)
    padded = np.full((10, 200), np.nan)
    padded[:, ::2][:, :80] = values
    assert GapLine()(padded) == GapLine()(values)


def test_the_order_of_images_and_patches_does_not_matter():
    values = scores(outliers=3)
    assert GapLine()(values[::-1, ::-1]) == GapLine()(values)


def test_a_gap_in_a_single_image_asks_for_more_images():
    clear = scores(images=10, outliers=3, at=2.0)
    assert GapLine()(clear).answer == "gap"
    line = GapLine()(clear[:1], layers=12)
    assert line.answer == "too few images"
    assert line.threshold is None
    # Of many images, one with an outlier is part of the tail.
    alone = scores(images=120)
    alone[0, 0] = 2.0
    assert GapLine()(alone, layers=12).answer == "none"


def test_more_than_a_quarter_is_no_minority():
    assert GapLine()(scores(outliers=30)).answer == "none"


def test_a_stray_between_the_populations_leaves_the_line():
    values = scores(images=40, outliers=4, at=20.0)
    values[0, 0] = 3.0
    line = GapLine()(values)
    assert line.answer == "gap"
    assert 3.0 < line.threshold < 15


def test_equal_scores_have_no_line_and_infinite_ones_count_as_the_largest():
    assert GapLine()(np.ones((3, 50))).answer == "none"
    assert GapLine()(np.ones((1, 1))).answer == "none"
    values = scores(outliers=3)
    values[0, 0] = np.inf
    assert GapLine()(values).marked == 30


def test_scores_that_are_none_and_settings_beyond_their_range_are_refused():
    with pytest.raises(ValueError, match=r"should be \(images, patches\)"):
        GapLine()(np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="`alpha` should be a share"):
        GapLine(alpha=0.0)
    with pytest.raises(ValueError, match="`width` should be above 0"):
        GapLine(width=0.0)
