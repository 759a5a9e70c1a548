"""Windows: the sliding grid by the published counts and by hand, the whole image, the center crop."""

from __future__ import annotations

import pytest
import torch

from diagnostics.images import Size
from segment.decoding.windows import WINDOWS, Center, Slide, Span, Whole, WindowGrid, spans

NATIVE = (224, 224)


@pytest.mark.parametrize(
    "size, crop, stride, down, along",
    [
        ((336, 504), 224, 112, 2, 4),
        ((560, 1120), 224, 112, 4, 9),
        ((448, 672), 448, 224, 1, 2),
        ((336, 336), 224, 112, 2, 2),
        ((100, 224), 224, 112, 1, 1),
        ((225, 337), 224, 112, 2, 3),
    ],
)
def test_the_sliding_grid_has_as_many_windows_as_published(size, crop, stride, down, along):
    places = Slide(crop=crop, stride=stride).places(size, NATIVE)
    assert (len(places.rows), len(places.cols)) == (down, along)
    assert places.count == down * along


def test_the_last_window_is_moved_back_to_end_with_the_side():
    # 504 = 224 + 2·112 + 56: the fourth window starts at 280 and not at 336.
    assert spans(504, 224, 112) == (Span(0, 224), Span(112, 336), Span(224, 448), Span(280, 504))


def test_a_side_shorter_than_the_crop_is_one_shorter_window():
    places = Slide(crop=224, stride=112).places((100, 300), NATIVE)
    assert places.rows == (Span(0, 100),)
    assert places.cols == (Span(0, 224), Span(76, 300))
    assert places.window == (100, 224)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 31, 40, 47, 48, 49, 100])
def test_windows_lie_inside_are_as_long_as_can_be_and_leave_no_pixel_out(length):
    starts = spans(length, 16, 7)
    covered = {pixel for start, stop in starts for pixel in range(start, stop)}
    assert covered == set(range(length))
    assert {stop - start for start, stop in starts} == {min(16, length)}


def test_without_settings_the_crop_is_the_models_size_and_the_stride_its_half():
    places = Slide().places((96, 96), (64, 64))
    assert places.rows == (Span(0, 64), Span(32, 96))
    assert Slide().shown((224, 224)) == Size(short=336)
    assert Slide(crop=448).shown((224, 224)) == Size(short=672)


def test_the_whole_image_is_one_window():
    places = Whole().places((336, 500), NATIVE)
    assert places == WindowGrid((336, 500), (Span(0, 336),), (Span(0, 500),))


def test_the_center_is_cut_from_the_middle_with_half_margins_rounded_to_even():
    places = Center(size=4).places((4, 9), NATIVE)
    assert places.cols == (Span(2, 6),)  # 2.5 goes to 2
    assert Center(size=4).places((4, 11), NATIVE).cols == (Span(4, 8),)  # 3.5 goes to 4
    assert Center(size=336).shown(NATIVE) == Size(short=336)
    assert Center().shown(NATIVE) == Size(short=224)


def test_a_side_shorter_than_the_center_is_taken_whole():
    assert Center(size=8).places((5, 20), NATIVE).rows == (Span(0, 5),)


def test_cut_gives_the_windows_row_by_row():
    image = torch.arange(3 * 6 * 8).reshape(3, 6, 8)
    cut = list(Slide(crop=4, stride=2).places((6, 8), NATIVE).cut(image))
    assert len(cut) == 6
    assert torch.equal(cut[0], image[:, :4, :4])
    assert torch.equal(cut[2], image[:, :4, 4:])
    assert torch.equal(cut[4], image[:, 2:, 2:6])


def test_windows_are_named_by_specs():
    assert WINDOWS.build("slide:crop=224,stride=112") == Slide(crop=224, stride=112)
    assert WINDOWS.build("whole") == Whole()
    assert WINDOWS.build("center:size=336") == Center(size=336)


@pytest.mark.parametrize("spec", ["slide:crop=0", "slide:stride=0", "slide:crop=64,stride=65", "center:size=0"])
def test_windows_that_see_nothing_or_leave_gaps_are_refused(spec):
    with pytest.raises(ValueError, match="should be at"):
        WINDOWS.build(spec)
