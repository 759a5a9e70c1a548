import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import LogNorm, Normalize

from diagnostics.registry import UnknownName
from figures import score_maps
from figures.look import FULL
from figures.maps.score_maps import outline, squares


@pytest.fixture
def image():
    """An image of 5 x 7 patches of 4 pixels."""
    return np.random.default_rng(1).random((20, 28, 3))


def maps(figure, spec):
    """The axes of one detector's maps, top to bottom."""
    return [ax for ax in figure.axes if ax.get_label().rpartition(" ")[0] == spec]


def drawn(ax, label):
    """The line segments of one kind of marks."""
    (lines,) = [lines for lines in ax.collections if lines.get_label() == label]
    return lines.get_segments()


def test_columns_are_detectors_and_rows_are_layers(scores):
    figure = score_maps(scores.sel(layer=[8, 11]))
    specs = [str(spec) for spec in scores["detector"].values]
    lefts = []
    for spec in specs:
        axes = maps(figure, spec)
        assert [ax.get_label() for ax in axes] == [f"{spec} 8", f"{spec} 11"]
        assert len({ax.get_position().x0 for ax in axes}) == 1
        assert axes[0].get_position().y0 > axes[1].get_position().y1
        lefts.append(axes[0].get_position().x0)
    assert lefts == sorted(set(lefts))


def test_a_map_holds_the_scores_of_its_detector_image_and_layer(scores):
    figure = score_maps(scores, "birds/image 2.jpg", layer=8)
    (ax,) = maps(figure, "lof")
    expected = scores["score"].sel(detector="lof", image="birds/image 2.jpg", layer=8)
    assert np.allclose(ax.images[0].get_array(), expected)


def test_at_most_four_layers_are_rows_unless_one_is_asked_for(scores):
    labels = [ax.get_label() for ax in maps(score_maps(scores), "lof")]
    assert len(labels) == 4
    assert (labels[0], labels[-1]) == ("lof 1", "lof 12")
    assert [ax.get_label() for ax in maps(score_maps(scores, layer=-2), "lof")] == ["lof 11"]


def test_each_detector_has_its_own_scale_for_all_its_layers_and_a_wide_one_is_logarithmic(scores):
    scores["score"][{"detector": 1, "image": 0, "layer": 0, "row": 0, "col": 0}] = 1e5
    figure = score_maps(scores)
    scales = {spec: {id(ax.images[0].norm) for ax in maps(figure, spec)} for spec in ("norm-topk", "lof")}
    assert all(len(ids) == 1 for ids in scales.values())
    assert scales["norm-topk"] != scales["lof"]
    assert isinstance(maps(figure, "norm-topk")[0].images[0].norm, LogNorm)
    assert type(maps(figure, "lof")[0].images[0].norm) is Normalize
    bars = [ax for ax in figure.axes if ax.get_label() == "color bar"]
    words = [[label.get_text() for label in ax.get_xticklabels()] for ax in bars]
    assert [middle for _, middle, _ in words][1:] == ["log", "", ""]
    assert float(words[1][2]) == pytest.approx(1e5)


def test_an_outline_is_the_border_of_what_is_marked():
    assert outline(np.zeros((2, 3), dtype=bool)) == []
    values = np.zeros((2, 3), dtype=bool)
    values[1, 2] = True
    corners = {corner for line in outline(values) for corner in line}
    assert len(outline(values)) == 4
    assert corners == {(1.5, 0.5), (2.5, 0.5), (1.5, 1.5), (2.5, 1.5)}
    # Two patches side by side share one border of six sides, without the line between them.
    values[1, 1] = True
    assert len(outline(values)) == 6
    assert [(1.5, 0.5), (1.5, 1.5)] not in outline(values)


def test_squares_stand_inside_their_patches():
    mask = np.zeros((3, 3), dtype=bool)
    mask[2, 0] = True
    (square,) = squares(mask, inset=0.25)
    assert square == [(-0.25, 1.75), (0.25, 1.75), (0.25, 2.25), (-0.25, 2.25), (-0.25, 1.75)]


def test_marked_and_planted_patches_are_outlined_where_they_are(scores, image):
    figure = score_maps(scores, "birds/image 1.jpg", layer=8, pixels=image)
    view = scores.sel(image="birds/image 1.jpg", layer=8)
    for spec in ("norm-topk", "random"):
        (ax,) = maps(figure, spec)
        assert np.allclose(drawn(ax, "marked"), outline(view["marked"].sel(detector=spec).values))
        assert np.allclose(drawn(ax, "planted"), squares(view["planted"].values))
    (shown,) = [ax for ax in figure.axes if ax.get_label() == "image"]
    assert np.allclose(drawn(shown, "planted"), squares(view["planted"].values))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "marked by the detector's own rule",
        "planted",
    ]


def test_without_planted_places_none_are_drawn_or_named(scores):
    figure = score_maps(scores.drop_vars("planted"), layer=8)
    (ax,) = maps(figure, "lof")
    assert [lines.get_label() for lines in ax.collections] == ["marked"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["marked by the detector's own rule"]


def test_the_padding_of_a_smaller_image_is_cut_off(scores):
    scores["inside"][{"image": 1, "row": 4}] = False
    scores["inside"][{"image": 1, "col": slice(5, None)}] = False
    scores["score"] = scores["score"].where(scores["inside"])
    (ax,) = maps(score_maps(scores, "birds/image 1.jpg", layer=8), "lof")
    assert ax.images[0].get_array().shape == (4, 5)
    assert not np.ma.getmaskarray(ax.images[0].get_array()).any()


def test_detectors_are_drawn_as_asked_and_unknown_ones_refused_with_the_near_name(scores):
    figure = score_maps(scores, layer=8, detectors=["random", "lof"])
    assert [ax.get_label() for ax in figure.axes if ax.get_label() != "color bar"] == ["random 8", "lof 8"]
    with pytest.raises(UnknownName, match="Did you mean `norm-topk`"):
        score_maps(scores, detectors=["norm-top"])
    with pytest.raises(ValueError, match="`layers` should be among"):
        score_maps(scores, layer=13)


@pytest.mark.parametrize("grid", [(14, 14), (14, 21), (1, 40), (40, 1)])
def test_many_detectors_stand_in_bands_and_no_text_touches_another(make_scored, grid):
    specs = [*(f"received-attention:head={n}" for n in range(16)), "adaptive:detector=relative-norm,rule=otsu"]
    dataset = make_scored(layers=2, grid=grid, detectors=specs)
    figure = score_maps(dataset, pixels=np.ones((30, 40, 3)))
    figure.canvas.draw()
    assert len({round(maps(figure, spec)[0].get_position().x0, 6) for spec in specs}) == 6
    assert figure.get_size_inches()[0] <= FULL + 1e-6
    bars = [ax for ax in figure.axes if ax.get_label() == "color bar"]
    labels = [label for ax in bars for label in ax.get_xticklabels() if label.get_text()]
    boxes = [text.get_window_extent() for text in (*figure.texts, *labels)]
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 + 1 for box in boxes)
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])


def test_scores_stay_as_they_were(scores, image):
    before = scores.copy(deep=True)
    score_maps(scores, pixels=image)
    xr.testing.assert_identical(scores, before)
