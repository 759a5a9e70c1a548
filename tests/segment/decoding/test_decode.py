"""Decoding block by block, against everything in memory at once; and the memory it takes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from segment.decoding.decode import UNSCORED, decode
from segment.decoding.merge import ScoreMaps, ScoreTile
from segment.method import Decode


@dataclass
class Given(ScoreMaps):
    """Scores in memory, handed out in blocks of some rows and some queries."""

    values: Tensor
    owners: Tensor
    rows: int = 10**6
    queries: int = 10**6
    unscored_rows: int = 0

    @property
    def size(self) -> tuple[int, int]:
        return self.values.shape[1], self.values.shape[2]

    @property
    def scored(self) -> Tensor:
        mask = torch.ones(self.size, dtype=torch.bool)
        mask[: self.unscored_rows] = False
        return mask

    def blocks(self, queries=None):
        chosen = torch.arange(len(self.values)) if queries is None else queries
        for block in chosen.split(self.queries):
            for top in range(0, self.size[0], self.rows):
                rows, cols = slice(top, top + self.rows), slice(0, self.size[1])
                yield ScoreTile(rows, cols, block, self.values[block][:, rows, cols].clone())


def slow(values: np.ndarray, owners: list[int], settings: Decode, background: int | None):
    """The rules as they are printed, with every probability in memory."""
    logits = values.astype(np.float64) * settings.scale
    shares = np.exp(logits - logits.max(axis=0))
    shares /= shares.sum(axis=0)
    classes = max(owners) + 1
    probability = np.stack(
        [shares[[q for q, owner in enumerate(owners) if owner == c]].max(axis=0) for c in range(classes)]
    )
    if settings.smallest_area:
        labels = probability.argmax(axis=0)
        area = {c: int((labels == c).sum()) for c in range(classes) if c != background}
        for c, pixels in area.items():
            if pixels <= settings.smallest_area * sum(area.values()):
                probability[c] = 0
    labels, best = probability.argmax(axis=0), probability.max(axis=0)
    labels[best < settings.threshold] = background if background is not None else -99
    return labels, best


OWNERS = [0, 0, 0, 1, 2, 2, 3, 4, 4, 5]


def random_scores(seed: int = 0) -> Tensor:
    # Smooth in places, so that classes have areas of very different size.
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(len(OWNERS), 4, 5, generator=generator)
    large = torch.nn.functional.interpolate(small[None], size=(24, 31), mode="bilinear")[0]
    return large + 0.05 * torch.rand(len(OWNERS), 24, 31, generator=generator)


@pytest.mark.parametrize("rows, queries", [(10**6, 10**6), (5, 10**6), (10**6, 3), (7, 1)])
@pytest.mark.parametrize(
    "settings",
    [
        Decode(scale=40),
        Decode(scale=3, threshold=0.2),
        Decode(scale=10, smallest_area=0.15),
        Decode(scale=5, threshold=0.25, smallest_area=0.3),
    ],
)
def test_blocks_give_what_everything_at_once_gives(rows, queries, settings):
    values = random_scores()
    decoded = decode(Given(values, torch.tensor(OWNERS), rows, queries), settings, background=0)
    labels, best = slow(values.numpy(), OWNERS, settings, 0)
    assert np.array_equal(decoded.labels.numpy(), labels)
    assert np.allclose(decoded.confidence.numpy(), best, atol=1e-5)
    if settings.smallest_area:
        assert not np.array_equal(labels, slow(values.numpy(), OWNERS, Decode(scale=settings.scale), 0)[0])


def test_queries_may_come_in_any_order_of_classes():
    values, order = random_scores(), torch.tensor([9, 2, 4, 0, 7, 5, 1, 8, 3, 6])
    settings = Decode(scale=20, threshold=0.1, smallest_area=0.1)
    expected = decode(Given(values, torch.tensor(OWNERS)), settings, background=0)
    decoded = decode(Given(values[order], torch.tensor(OWNERS)[order], 6, 3), settings, background=0)
    assert torch.equal(decoded.labels, expected.labels)
    assert torch.allclose(decoded.confidence, expected.confidence, atol=1e-6)


def test_a_class_has_the_largest_probability_of_its_queries_and_not_their_sum():
    # Two queries of class 0 at 0.3 each against one of class 1 at 0.4.
    values = torch.log(torch.tensor([0.3, 0.3, 0.4]))[:, None, None]
    decoded = decode(Given(values, torch.tensor([0, 0, 1])), Decode(scale=1))
    assert int(decoded.labels) == 1
    assert float(decoded.confidence) == pytest.approx(0.4)


def test_of_equal_classes_the_lowest_wins():
    decoded = decode(Given(torch.zeros(4, 1, 1), torch.tensor([3, 1, 2, 0]), queries=1), Decode())
    assert int(decoded.labels) == 0
    assert float(decoded.confidence) == pytest.approx(0.25)


def test_a_probability_at_the_threshold_is_enough():
    scores = Given(torch.zeros(2, 1, 1), torch.tensor([0, 1]))
    assert int(decode(scores, Decode(threshold=0.5), background=1).labels) == 0
    assert int(decode(scores, Decode(threshold=0.501), background=1).labels) == 1


def planted(*labels: int, classes: int = 4) -> Tensor:
    """Scores (C, 1, P) where each pixel's class leads and class 3 comes second, class 2 third, and so on."""
    values = torch.arange(classes).float()[:, None].expand(-1, len(labels)).clone()
    values[list(labels), range(len(labels))] = 10
    return values[:, None]


def test_a_small_class_gives_its_pixels_to_the_best_class_left_and_not_to_background():
    # Foreground: 4 pixels of class 1, 6 of class 2. Class 1 has 0.4 of them; class 3 comes second but has none.
    values = planted(0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2)
    kept = decode(Given(values, torch.arange(4)), Decode(scale=1, smallest_area=0.39), background=0)
    assert kept.labels[0].tolist() == [0] * 3 + [1] * 4 + [2] * 6
    decoded = decode(Given(values, torch.arange(4)), Decode(scale=1, smallest_area=0.4), background=0)
    assert decoded.labels[0].tolist() == [0] * 3 + [2] * 10


def test_of_equal_classes_that_are_left_the_lowest_wins_in_any_order_of_queries():
    values = planted(1, 2, 2, 2, 3, 3, 3)
    values[2:, 0, 0] = 5  # the pixel of class 1, which is too small, likes 2 and 3 alike
    order = torch.tensor([3, 2, 0, 1])
    decoded = decode(Given(values[order], order), Decode(scale=1, smallest_area=0.2), background=0)
    assert decoded.labels[0].tolist() == [2, 2, 2, 2, 3, 3, 3]


def test_background_is_never_too_small_and_where_nothing_is_left_all_becomes_background():
    values = planted(0, 1, 1, 1, 1, 2, 2, 2, 2)
    decoded = decode(Given(values, torch.arange(4)), Decode(scale=1, smallest_area=0.5), background=0)
    assert decoded.labels[0].tolist() == [0] * 9


def test_without_a_background_every_class_is_foreground_and_the_last_ones_stay():
    values = planted(0, 0, 0, 1)
    decoded = decode(Given(values, torch.arange(4)), Decode(scale=1, smallest_area=0.3))
    assert decoded.labels[0].tolist() == [0, 0, 0, 0]
    decoded = decode(Given(planted(0, 0, 1, 1), torch.arange(4)), Decode(scale=1, smallest_area=0.5))
    assert decoded.labels[0].tolist() == [0, 0, 1, 1]


def test_background_may_be_any_class():
    values = planted(3, 1, 1, 1, 2, 2)
    decoded = decode(Given(values, torch.arange(4)), Decode(scale=1, smallest_area=0.4), background=3)
    assert decoded.labels[0].tolist() == [3, 1, 1, 1, 3, 3]


def test_a_threshold_without_a_background_is_refused():
    with pytest.raises(ValueError, match="the vocabulary has none"):
        decode(Given(torch.zeros(2, 1, 1), torch.arange(2)), Decode(threshold=0.1))


def test_unscored_pixels_have_no_label_no_confidence_and_no_area():
    values = planted(1, 1, 1, 2).mT  # a column of pixels
    decoded = decode(
        Given(values, torch.arange(4), unscored_rows=2),
        Decode(scale=1, smallest_area=0.4, threshold=0.9),
        background=0,
    )
    # Left are one pixel of class 1 and one of class 2, half each.
    assert decoded.labels[:, 0].tolist() == [UNSCORED, UNSCORED, 1, 2]
    assert decoded.confidence[:2].tolist() == [[0], [0]]


def test_large_scales_stay_finite():
    values = torch.stack([torch.full((2, 3), 1.0), torch.full((2, 3), -1.0)])
    decoded = decode(Given(values, torch.arange(2), queries=1), Decode(scale=1e4))
    assert torch.equal(decoded.confidence, torch.ones(2, 3))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory where Linux tells it")
def test_memory_does_not_hold_all_classes_at_full_size():
    script = """
        import torch
        from diagnostics.layout import Padding
        from segment.decoding.decode import decode
        from segment.decoding.merge import ScoreAccumulator
        from segment.method import Decode
        from segment.decoding.windows import Slide

        torch.set_num_threads(1)
        def peak():
            with open("/proc/self/status") as file:
                return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))

        def run(queries, size, tile=None):
            places = Slide(crop=224, stride=112).places((336, 504), (224, 224))
            windows = ScoreAccumulator(places, size)
            for number in range(places.count):
                windows.add(number, torch.rand(queries, 14, 14), Padding(0, 0, 0, 0))
            decode(windows.merged(torch.arange(queries)), Decode(smallest_area=0.01), background=0)

        run(2, (8, 8))  # what the library allocates once
        before = peak()
        run(300, (400, 600))
        print(peak() - before)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    whole = 300 * 400 * 600 * 4 / 2**20  # 275 MB
    assert float(ran.stdout) < whole / 2
