import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from diagnostics.studies.agreement import agreement_table
from diagnostics.studies.thresholds import threshold_table
from figures import compare_figures
from figures.tables.compare_report import planted_figures


@pytest.fixture
def few(make_scored):
    return make_scored(layers=2)


@pytest.fixture
def tables(few):
    purification = pd.DataFrame(
        {
            "layer": [1, 2],
            "purifier": ["zero", "zero"],
            "mode": ["propagated", "propagated"],
            **{f"{name}{last}": [0.1, 0.2] for name in ("delta_auc", "low", "high") for last in ("", "_last")},
        }
    )
    return {
        "thresholds": threshold_table(few, thresholds=4),
        "agreement": agreement_table(few),
        "purification": purification,
        "truth": pd.DataFrame({"auc": [0.5]}),
    }


def names(*args, **settings):
    return [name for name, _ in compare_figures(*args, **settings)]


def test_all_figures_come_with_names_for_files(few, tables):
    named = list(compare_figures(few, tables, maps_for=1))
    assert all(isinstance(figure, Figure) for _, figure in named)
    assert [name for name, _ in named] == [
        "thresholds",
        "agreement_jaccard_layer_1",
        "agreement_spearman_layer_1",
        "agreement_jaccard_layer_2",
        "agreement_spearman_layer_2",
        "planted_roc_layer_1",
        "planted_roc_layer_2",
        "purification",
        "purification_last",
        "scores_birds_image_0.jpg",
    ]


def test_only_what_is_there_is_drawn(few, tables):
    assert names(few.drop_vars("planted"), {}, maps_for=0) == []
    assert names(few.drop_vars("planted"), {"agreement": tables["agreement"].iloc[:0]}, maps_for=0) == []
    unlabeled = tables["purification"].assign(delta_auc=np.nan, delta_auc_last=np.nan)
    assert names(few.drop_vars("planted"), {"purification": unlabeled}, maps_for=0) == []
    assert names(few.isel(image=slice(0)), tables) == []


def test_at_most_four_layers_have_figures_of_their_own(scores):
    assert names(scores, {}, maps_for=0) == [f"planted_roc_layer_{layer}" for layer in (1, 5, 8, 12)]


def test_bars_of_several_detectors_are_figures_of_their_own(few, tables):
    several = pd.concat([tables["purification"].assign(detector=spec) for spec in ("lof:neighbors=5", "som")])
    values = dict(compare_figures(few.drop_vars("planted"), {"purification": several}, maps_for=0))
    assert list(values) == [
        "purification_lof_neighbors_5",
        "purification_last_lof_neighbors_5",
        "purification_som",
        "purification_last_som",
    ]
    assert values["purification_som"].get_suptitle() == "som"


def test_given_images_come_first_and_stand_beside_their_maps(few):
    images = {"birds/image 2.jpg": np.zeros((10, 14, 3))}
    values = dict(compare_figures(few.drop_vars("planted"), {}, images=images, maps_for=2))
    assert list(values) == ["scores_birds_image_2.jpg", "scores_birds_image_0.jpg"]
    with_image = {name for name, figure in values.items() if "image" in [ax.get_label() for ax in figure.axes]}
    assert with_image == {"scores_birds_image_2.jpg"}


def test_plantings_are_kept_apart_by_number_and_arrangement(few):
    figures = dict(planted_figures(few, count=35, clustered=True)) | dict(planted_figures(few, count=4))
    assert list(figures) == [
        "planted_roc_k35_clustered_layer_1",
        "planted_roc_k35_clustered_layer_2",
        "planted_roc_k4_scattered_layer_1",
        "planted_roc_k4_scattered_layer_2",
    ]
    assert figures["planted_roc_k4_scattered_layer_2"].get_suptitle() == "4 planted in each image, scattered"
