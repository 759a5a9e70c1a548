"""Label maps over images: the right tint at the right pixel, and a legend of what occurs."""

from itertools import pairwise

import numpy as np
import pytest

from figures.maps.label_maps import colored, label_map, legend_of, method_sheet

COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
NAMES = ("background", "cat", "dog")


@pytest.fixture
def image():
    return np.full((4, 6, 3), 255, np.uint8)


@pytest.fixture
def labels():
    values = np.zeros((4, 6), int)
    values[1:3, 2] = 1
    values[0, 0] = -1
    return values


def test_each_pixel_is_mixed_with_its_class_color_and_unscored_ones_stay(image, labels):
    tinted = colored(image, labels, COLORS, opacity=0.5)
    assert tinted[1, 2] == pytest.approx([1.0, 0.5, 0.5])
    assert tinted[3, 3] == pytest.approx([0.5, 0.5, 0.5])
    assert tinted[0, 0].tolist() == [1.0, 1.0, 1.0]


def test_the_image_under_a_tint_is_gray_so_that_the_color_is_the_class_s(labels):
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 1] = 255  # green
    tinted = colored(image, labels, COLORS, opacity=0.5)
    assert tinted[3, 3] == pytest.approx([0.2935] * 3), "the background is black"
    assert tinted[0, 0].tolist() == [0, 1, 0]


def test_labels_of_another_size_are_refused(image):
    with pytest.raises(ValueError, match=r"height and width \(4, 6\); got \(2, 2\)"):
        colored(image, np.zeros((2, 2), int), COLORS)


def test_the_legend_lists_what_occurs_by_area(labels):
    assert [handle.get_label() for handle in legend_of([labels], NAMES, COLORS)] == ["background", "cat"]
    assert [handle.get_label() for handle in legend_of([labels], NAMES, COLORS, most=1)] == ["background", "and 1 more"]


def test_a_sheet_has_a_cell_for_image_truth_and_each_method(image, labels):
    figure = method_sheet(image, {"clip": labels, "sclip": labels}, NAMES, truth=labels, scores={"clip": 0.414})
    figure.canvas.draw()
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["image", "truth", "clip  mIoU 0.41", "sclip"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["background", "cat"]


def test_a_sheet_leaves_as_few_places_empty_as_it_can(image, labels):
    figure = method_sheet(image, {f"method {k}": labels for k in range(5)}, NAMES)
    figure.canvas.draw()
    tops = [round(ax.get_position().y0, 3) for ax in figure.axes]
    assert sorted(tops.count(top) for top in set(tops)) == [3, 3]


def test_a_place_that_stays_empty_takes_the_legend_where_it_fits(image, labels):
    maps = {f"method {k}": labels for k in range(6)}  # with the image 7 of 8 places
    figure = method_sheet(image, maps, NAMES)
    assert figure.axes[-1].get_label() == "legend"
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ["background", "cat"]
    assert not figure.legends
    names = [f"class {number}" for number in range(24)]
    crowded = method_sheet(image, {name: np.arange(24).reshape(4, 6) for name in maps}, names)
    assert len(crowded.axes) == 7
    assert len(crowded.legends[0].get_texts()) == 24


def test_one_map_has_the_shape_of_its_image_and_a_title(image, labels):
    figure = label_map(image, labels, NAMES, background=0, title="a $b$.png")
    figure.canvas.draw()
    assert len(figure.axes) == 1
    assert figure.get_suptitle() == "a $b$.png"
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape == (4, 6, 3)


def test_long_specs_and_names_stay_inside_the_figure(labels):
    """Everything drawn is inside, heads do not run into each other, and dollar signs mean nothing."""
    names = [f"a ${kind}$ long name {kind}" for kind in range(40)]
    image, many = np.zeros((40, 60, 3), np.uint8), np.arange(2400).reshape(40, 60) % 40
    spec = "sc-clip:detector=lof(neighbors={}),purifier=neighbor-mean"
    title = "a/very/deep/folder/" * 6 + "x_$y$.jpg"
    for figure in (
        method_sheet(image, {spec.format(k): many for k in range(4)}, names, title=title),
        label_map(image, many, names, title=f"{title}: {spec}"),
    ):
        figure.canvas.draw()
        legend = figure.legends[0]
        heads = [ax._left_title.get_window_extent() for ax in figure.axes if ax.get_title(loc="left")]
        for box in (legend.get_window_extent(), figure._suptitle.get_window_extent(), *heads):
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1
        assert all(a.x1 <= b.x0 or a.y0 != b.y0 for a, b in pairwise(heads))
        assert "$" in legend.get_texts()[0].get_text()
        assert not any(text.get_parse_math() for text in legend.get_texts())


def test_a_sheet_of_nothing_is_refused(image):
    with pytest.raises(ValueError, match="at least one label map"):
        method_sheet(image, {}, NAMES)
