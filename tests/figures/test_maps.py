import numpy as np
import pytest
from matplotlib.colors import LogNorm

from diagnostics.registry import UnknownName
from figures import maps_over_layers, pca_maps
from figures.look import FULL, drawing
from figures.maps.layer_maps import draw_map, pca_colors


@pytest.fixture
def image():
    """An image of 5 x 7 patches of 4 pixels."""
    return np.random.default_rng(1).random((20, 28, 3))


def map_axes(figure, variable):
    """The axes of one variable's maps, left to right."""
    return [ax for ax in figure.axes if ax.get_label().startswith(f"{variable} ")]


def bars(figure):
    return [ax for ax in figure.axes if ax.get_label() == "color bar"]


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_rows_are_variables_and_columns_are_layers(probed):
    figure = maps_over_layers(probed, "birds/image 1.jpg")
    for variable in ("norm", "class_attention", "received_attention", "self_attention"):
        axes = map_axes(figure, variable)
        assert [ax.get_label() for ax in axes] == [f"{variable} {layer}" for layer in range(1, 13)]
        assert len({round(ax.get_position().y0, 6) for ax in axes}) == 1
        lefts = [ax.get_position().x0 for ax in axes]
        assert lefts == sorted(lefts)
    assert len(bars(figure)) == 4
    assert texts(figure)[-13:] == ["layer", *(str(layer) for layer in range(1, 13))]
    assert "norm of the patch (model units, log scale)" in texts(figure)
    assert figure.get_suptitle() == "birds/image 1.jpg"


def test_attention_is_the_mean_over_heads(probed):
    figure = maps_over_layers(probed, variables=["class_attention"])
    (image,) = map_axes(figure, "class_attention")[8].images
    expected = probed["class_attention"].isel(image=0, layer=8).mean("head")
    lowest = image.norm.vmin
    assert np.allclose(image.get_array(), np.maximum(expected, lowest), rtol=1e-6)


def test_a_row_shares_one_scale_and_norms_are_logarithmic(probed):
    figure = maps_over_layers(probed, variables=["norm", "self_attention"])
    for variable in ("norm", "self_attention"):
        scales = {id(ax.images[0].norm) for ax in map_axes(figure, variable)}
        assert len(scales) == 1
    norms = map_axes(figure, "norm")[0].images[0].norm
    assert isinstance(norms, LogNorm)
    assert norms.vmax == pytest.approx(float(probed["norm"].isel(image=0).max()))
    quiet = maps_over_layers(probed.sel(layer=[1, 2]), variables=["norm"])
    assert isinstance(map_axes(quiet, "norm")[0].images[0].norm, LogNorm)


def test_the_color_bar_tells_the_ends_of_its_scale(probed):
    figure = maps_over_layers(probed, variables=["norm"])
    figure.canvas.draw()
    labels = [label.get_text() for label in bars(figure)[0].get_yticklabels()]
    assert len(labels) == 3
    assert labels[0].startswith("≤")
    assert float(labels[2]) == pytest.approx(float(probed["norm"].isel(image=0).max()), rel=0.01)


def test_patches_are_sharp_squares_of_the_true_shape(probed):
    axes = map_axes(maps_over_layers(probed), "norm")[0]
    (image,) = axes.images
    assert image.get_interpolation() == "nearest"
    assert image.get_array().shape == (5, 7)
    box = axes.get_position()
    width, height = axes.figure.get_size_inches()
    assert (box.height * height) / (box.width * width) == pytest.approx(5 / 7)


def test_the_padding_of_a_smaller_image_is_cut_off(make):
    big = make(grid=(6, 8))
    big["rows"] = ("image", [6, 4, 6])
    big["cols"] = ("image", [8, 5, 8])
    big = big.set_coords(["rows", "cols"])
    big["norm"] = big["norm"].where((big["row"] < big["rows"]) & (big["col"] < big["cols"]))
    axes = map_axes(maps_over_layers(big, "birds/image 1.jpg", variables=["norm"]), "norm")
    assert axes[0].images[0].get_array().shape == (4, 5)
    assert not np.ma.getmaskarray(axes[0].images[0].get_array()).any()
    pca = pca_maps(big, "birds/image 1.jpg")
    assert pca.axes[0].images[0].get_array().shape == (4, 5, 3)


def test_the_image_stands_on_the_left_in_its_own_shape(probed, image):
    figure = maps_over_layers(probed, pixels=image)
    (shown,) = [ax for ax in figure.axes if ax.get_label() == "image"]
    assert np.allclose(shown.images[0].get_array(), image, atol=1e-6)
    assert shown.get_position().x1 < map_axes(figure, "norm")[0].get_position().x0
    width, height = figure.get_size_inches()
    box = shown.get_position()
    assert (box.height * height) / (box.width * width) == pytest.approx(20 / 28)


def test_whole_numbers_and_fractions_show_the_same_image(probed, image):
    bytes_ = (image * 255).astype(np.uint8)
    figures = [maps_over_layers(probed, pixels=kind, variables=["norm"]) for kind in (bytes_, bytes_ / 255)]
    first, second = (next(ax for ax in figure.axes if ax.get_label() == "image").images[0] for figure in figures)
    assert np.allclose(first.get_array(), second.get_array())


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (np.zeros((3, 20, 28)), ValueError, "permute"),
        (np.full((20, 28, 3), 2.0), ValueError, "normalization"),
        (np.zeros((20, 28, 3), dtype=np.int64), TypeError, "int64"),
    ],
)
def test_a_image_of_another_form_is_refused(probed, wrong, error, match):
    with pytest.raises(error, match=match):
        maps_over_layers(probed, pixels=wrong)


def test_an_overlay_lies_over_the_whole_gray_image(probed, image):
    figure = maps_over_layers(probed, pixels=image, overlay=True, variables=["norm"])
    under, over = map_axes(figure, "norm")[3].images
    assert under.get_extent() == over.get_extent()
    assert np.allclose(under.get_array(), image.mean(-1), atol=1e-6)
    assert 0 < over.get_alpha() < 1
    with pytest.raises(ValueError, match="overlay"):
        maps_over_layers(probed, overlay=True)


def test_many_layers_are_thinned_and_chosen_ones_are_drawn_as_asked(make):
    deep = make(layers=24)
    labels = [ax.get_label() for ax in map_axes(maps_over_layers(deep, variables=["norm"]), "norm")]
    assert len(labels) == 12
    assert (labels[0], labels[-1]) == ("norm 1", "norm 24")
    labels = [ax.get_label() for ax in map_axes(maps_over_layers(deep, variables=["norm"], layers=[-1, 3]), "norm")]
    assert labels == ["norm 24", "norm 3"]


def test_a_model_without_a_class_token_has_the_other_rows(probed):
    figure = maps_over_layers(probed.drop_vars(["class_attention", "class_norm"]))
    assert len(bars(figure)) == 3
    assert not map_axes(figure, "class_attention")


def test_an_unknown_image_is_refused_with_the_near_name(probed):
    with pytest.raises(UnknownName, match=r"Did you mean `birds/image 2\.jpg`"):
        maps_over_layers(probed, "birds/image 2.jpeg")


def test_a_variable_that_is_no_map_is_refused(probed):
    with pytest.raises(ValueError, match=r"`entropy`.*lacks row, col"):
        maps_over_layers(probed, variables=["entropy"])


@pytest.mark.parametrize("size", [{}, {"layers": 24, "grid": (14, 21)}, {"grid": (1, 40)}, {"grid": (40, 1)}])
def test_no_text_leaves_the_page_or_touches_another(make, size):
    dataset = make(**size)
    name = str(dataset["image"].values[0])
    for figure in (maps_over_layers(dataset, name), pca_maps(dataset, name, pixels=np.ones((30, 40, 3)))):
        figure.canvas.draw()
        page = figure.bbox
        labels = [label for ax in bars(figure) for label in ax.get_yticklabels()]
        boxes = [text.get_window_extent() for text in (*figure.texts, *labels)]
        for box in boxes:
            assert box.x0 >= page.x0
            assert box.x1 <= page.x1
            assert box.y0 >= page.y0
            assert box.y1 <= page.y1
        assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])


def test_a_long_image_name_is_shortened_and_dollars_are_no_formulas(probed):
    name = "a" * 90 + "$x$_$" + "z" * 90 + ".png"
    renamed = probed.assign_coords(image=[name, "b", "c"])
    figure = maps_over_layers(renamed, name, variables=["norm"])
    figure.canvas.draw()
    assert "…" in figure.get_suptitle()
    assert figure.texts[0].get_window_extent().x1 <= figure.bbox.x1


def test_a_map_alone_takes_its_own_scale_and_grays_what_is_missing():
    values = np.array([[1.0, 2.0], [np.nan, 3.0]])
    with drawing() as figure:
        image = draw_map(figure.subplots(), values)
    assert (image.norm.vmin, image.norm.vmax) == (1.0, 3.0)
    assert np.ma.getmaskarray(image.get_array()).tolist() == [[False, False], [True, False]]


def test_zeros_take_the_lowest_color_of_a_log_scale():
    with drawing() as figure:
        image = draw_map(figure.subplots(), np.array([[0.0, 1e-3], [1e-2, 1.0]]))
    assert isinstance(image.norm, LogNorm)
    assert image.get_array()[0, 0] == image.norm.vmin


def test_pca_colors_stretch_each_component_and_keep_outliers_from_taking_the_range():
    ramp = np.linspace(0, 1, 100).reshape(10, 10)
    loud = ramp.copy()
    loud[0, 0] = -1e6
    colors = pca_colors(np.stack([ramp, 5 + 10 * ramp, loud]))
    assert colors.shape == (10, 10, 3)
    assert colors.min() == 0
    assert colors.max() == 1
    assert np.allclose(colors[..., 0], colors[..., 1])
    assert np.ptp(colors[5, :, 2]) > 0.05


def test_pca_colors_of_few_components_are_gray_in_the_rest_and_white_without_values():
    component = np.array([[0.0, 1.0], [2.0, np.nan]])
    colors = pca_colors(component[None])
    assert colors[0, 0].tolist() == [0.0, 0.5, 0.5]
    assert colors[1, 1].tolist() == [1.0, 1.0, 1.0]
    assert (pca_colors(np.zeros((3, 2, 2))) == 0.5).all()


def test_pca_maps_show_all_layers_with_their_numbers(make, image):
    figure = pca_maps(make(layers=24), pixels=image, title="tokens")
    maps = map_axes(figure, "pca")
    assert [ax.get_label() for ax in maps] == [f"pca {layer}" for layer in range(1, 25)]
    assert {f"layer {layer}" for layer in range(1, 25)} <= set(texts(figure))
    assert figure.get_suptitle() == "tokens"
    assert "red, green, blue" in " ".join(texts(figure)).replace("\n", " ")
    assert figure.get_size_inches()[0] <= FULL + 1e-6


@pytest.mark.parametrize("layers", [[1, 6, 12], list(range(1, 13))])
@pytest.mark.parametrize("variables", [["norm"], ["norm", "self_attention"]])
def test_no_word_is_printed_over_the_image(probed, variables, layers):
    tall = np.zeros((60, 40, 3), np.uint8)
    figure = maps_over_layers(probed, pixels=tall, variables=variables, layers=layers)
    figure.canvas.draw()
    shown = next(ax for ax in figure.axes if ax.get_label() == "image").get_window_extent()
    assert "layer" in texts(figure)
    assert not any(text.get_window_extent().overlaps(shown) for text in figure.texts)
    assert figure.get_size_inches()[0] <= FULL + 1e-6
