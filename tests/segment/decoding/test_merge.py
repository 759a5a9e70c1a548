"""Merging windows: against whole maps made by the library, window by window."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diagnostics.layout import Padding
from segment.decoding.merge import Merged, ScoreAccumulator
from segment.decoding.windows import Center, Slide, Whole, WindowGrid, Windows

NATIVE = (32, 32)


def random_windows(places: WindowGrid, queries: int, cells: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.rand(queries, *cells, generator=generator) - 1 for _ in range(places.count)]


def merged(places: WindowGrid, maps: list[Tensor], size: tuple[int, int], padding: Padding) -> Merged:
    gathering = ScoreAccumulator(places, size)
    for number, values in reversed(list(enumerate(maps))):  # in any order
        gathering.add(number, values, padding)
    return gathering.merged(torch.arange(len(maps[0])))


def slow(places: WindowGrid, maps: list[Tensor], size: tuple[int, int], padding: Padding) -> Tensor:
    """Every window at its own size, added up, divided, and the sum brought to the image's size: all at once."""
    total, hits = torch.zeros(len(maps[0]), *places.size, dtype=torch.float64), torch.zeros(places.size)
    height, width = places.window
    padded = (height + padding.top + padding.bottom, width + padding.left + padding.right)
    number = 0
    for top, bottom in places.rows:
        for left, right in places.cols:
            large = F.interpolate(maps[number][None].double(), size=padded, mode="bilinear", align_corners=False)[0]
            large = large[:, padding.top : padding.top + height, padding.left : padding.left + width]
            total[:, top:bottom, left:right] += large
            hits[top:bottom, left:right] += 1
            number += 1
    return F.interpolate((total / hits)[None], size=size, mode="bilinear", align_corners=False)[0]


CASES = [
    (Slide(crop=32, stride=16), (48, 72), (61, 97), (2, 2), Padding(0, 0, 0, 0)),  # enlarged, 2 x 4 windows
    (Slide(crop=32, stride=16), (70, 53), (40, 31), (4, 4), Padding(0, 0, 0, 0)),  # made smaller
    (Slide(crop=30, stride=11), (48, 72), (48, 72), (4, 4), Padding(1, 1, 1, 1)),  # padded to whole patches
    (Slide(crop=40, stride=20), (17, 90), (33, 170), (3, 5), Padding(3, 4, 0, 0)),  # shorter than the crop
    (Whole(), (48, 72), (100, 150), (3, 5), Padding(0, 0, 4, 4)),
    (Slide(crop=32, stride=16), (48, 64), (57, 70), (32, 32), Padding(0, 0, 0, 0)),  # scores at pixels
    (Slide(crop=32, stride=16), (48, 64), (57, 70), (5, 9), Padding(0, 0, 0, 0)),  # a grid of another patch size
]


@pytest.mark.parametrize("windows, shown, size, cells, padding", CASES)
@pytest.mark.parametrize("tile_bytes", [4, 3 * 4 * 50, 10**9])
def test_tiles_equal_whole_maps_made_by_the_library(
    windows: Windows,
    shown: tuple[int, int],
    size: tuple[int, int],
    cells: tuple[int, int],
    padding: Padding,
    tile_bytes,
):
    if tile_bytes == 4 and size[0] * size[1] > 6000:
        size = (size[0] // 3, size[1] // 3)  # a tile for each pixel takes time
    places = windows.places(shown, NATIVE)
    maps = random_windows(places, 3, cells)
    scores = replace(merged(places, maps, size, padding), tile_bytes=tile_bytes).whole()
    assert (scores - slow(places, maps, size, padding)).abs().max() < 1e-6


def test_blocks_cover_every_pixel_once_and_stay_small():
    places = Slide().places((48, 72), NATIVE)
    whole = replace(merged(places, random_windows(places, 5, (2, 2)), (61, 97), Padding(0, 0, 0, 0)), tile_bytes=2000)
    visits = torch.zeros(61, 97)
    for rows, cols, queries, values in whole.blocks():
        assert queries is None
        assert values.numel() * 4 <= 2000
        visits[rows, cols] += 1
    assert (visits == 1).all()


def test_chosen_queries_come_in_their_order():
    places = Slide().places((48, 72), NATIVE)
    maps = merged(places, random_windows(places, 5, (2, 2)), (61, 97), Padding(0, 0, 0, 0))
    chosen = torch.tensor([3, 0, 4])
    assert torch.allclose(maps.whole(chosen), maps.whole()[chosen], atol=1e-6)


def test_what_lies_outside_a_center_crop_is_unscored_and_its_rim_takes_the_nearest_score():
    places = Center(size=4).places((4, 8), NATIVE)  # columns 2…5 of 8
    maps = [torch.tensor([[[1.0, 1.0, 2.0, 2.0]] * 4])]
    scores = merged(places, maps, (8, 16), Padding(0, 0, 0, 0))  # twice as large: columns 4…11
    assert scores.scored.all(dim=0).tolist() == [False] * 4 + [True] * 8 + [False] * 4
    row = scores.whole()[0, 0, 4:12]
    assert row.tolist() == pytest.approx([1, 1, 1, 1.25, 1.75, 2, 2, 2])


def test_a_pixel_of_which_half_was_seen_is_scored_by_that_half():
    places = Center(size=2).places((4, 4), NATIVE)  # the middle 2 x 2 of 4 x 4, brought to 2 x 2
    scores = merged(places, [torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])], (2, 2), Padding(0, 0, 0, 0))
    assert scores.scored.all()
    assert scores.whole()[0].tolist() == [[1, 2], [3, 4]]


def test_everything_is_scored_where_windows_cover_the_image():
    places = Slide().places((48, 72), NATIVE)
    assert merged(places, random_windows(places, 1, (2, 2)), (61, 97), Padding(0, 0, 0, 0)).scored.all()


def test_a_missing_window_is_reported():
    places = Slide().places((48, 72), NATIVE)
    gathering = ScoreAccumulator(places, (48, 72))
    gathering.add(0, torch.zeros(1, 2, 2), Padding(0, 0, 0, 0))
    with pytest.raises(ValueError, match="7 of the image's 8 windows are missing"):
        gathering.merged([0])


def test_label_maps_are_merged_as_their_ones_and_zeros_are():
    places = Slide(crop=32, stride=16).places((48, 64), (32, 32))
    padding = Padding(0, 0, 0, 0)
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(0, 5, (1, 32, 32), generator=generator) for _ in range(places.count)]
    ones = [torch.nn.functional.one_hot(flags[0], 5).permute(2, 0, 1).float() for flags in labels]
    scores, expected = ScoreAccumulator(places, (70, 90)), ScoreAccumulator(places, (70, 90))
    for number, (label, flags) in enumerate(zip(labels, ones, strict=True)):
        scores.add(number, label, padding, by_class=True)
        expected.add(number, flags, padding, by_class=True)
    chosen = torch.tensor([3, 0])
    for queries in (None, chosen):
        torch.testing.assert_close(
            scores.merged(torch.arange(5)).whole(queries), expected.merged(torch.arange(5)).whole(queries)
        )
