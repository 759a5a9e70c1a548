import numpy as np
import pytest
from matplotlib.figure import Figure

from figures import probe_figures
from figures.curves.probe_report import safe_name


def test_all_figures_come_with_names_for_files(probed):
    named = list(probe_figures(probed, maps_for=1))
    assert all(isinstance(figure, Figure) for _, figure in named)
    assert [name for name, _ in named] == [
        "layers",
        "heads_attention_entropy",
        "heads_stripe_contrast",
        "heads_rank_one_share",
        "heads_attention_distance",
        "layer_similarity",
        "roc",
        "channel_means",
        "channels",
        "maps_birds_image_0.jpg",
        "pca_birds_image_0.jpg",
    ]


@pytest.mark.parametrize(
    ("variables", "names"),
    [
        (["entropy"], ["layers"]),
        (["norm"], ["layers", "maps_birds_image_0.jpg"]),
        (["pca"], ["pca_birds_image_0.jpg"]),
        (["channel_peak"], ["channels"]),
        (["layer_cka"], ["layer_similarity"]),
        ([], []),
    ],
)
def test_only_what_was_measured_is_drawn(probed, variables, names):
    assert [name for name, _ in probe_figures(probed[variables], maps_for=1)] == names


def test_maps_are_drawn_for_as_many_images_as_asked_and_given_ones_first(probed):
    def maps(**settings):
        return [name for name, _ in probe_figures(probed[["pca"]], **settings)]

    assert len(maps()) == 3
    assert len(maps(maps_for=2)) == 2
    assert maps(maps_for=0) == []
    images = {"birds/image 2.jpg": np.zeros((10, 14, 3))}
    assert maps(maps_for=1, images=images) == ["pca_birds_image_2.jpg"]


def test_a_given_image_stands_beside_its_maps(probed):
    images = {"birds/image 1.jpg": np.zeros((10, 14, 3))}
    figures = dict(probe_figures(probed[["norm"]], images=images, maps_for=2))
    with_image = {name for name, figure in figures.items() if "image" in [ax.get_label() for ax in figure.axes]}
    assert with_image == {"maps_birds_image_1.jpg"}


def test_names_that_look_alike_still_differ(probed):
    renamed = probed[["pca"]].assign_coords(image=["a/b.png", "a b.png", "A_B.PNG"])
    names = [name for name, _ in probe_figures(renamed)]
    assert names == ["pca_a_b.png", "pca_a_b.png_2", "pca_A_B.PNG_3"]


def test_no_images_no_figures(probed):
    assert list(probe_figures(probed.isel(image=slice(0)))) == []


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("birds/2007 (1).jpg", "birds_2007_1_.jpg"),
        ("../../etc/passwd", "etc_passwd"),
        ("Straße.png", "Straße.png"),
        ("C:\\a\\b", "C_a_b"),
        ("///", "image"),
        ("", "image"),
        ("x" * 300 + ".png", "x" * 76 + ".png"),
    ],
)
def test_image_names_become_safe_file_names(name, safe):
    assert safe_name(name) == safe


def test_a_taken_name_gets_a_number():
    assert safe_name("a", ["A", "a_2"]) == "a_3"
