"""Maps of chosen patches and whole attention maps, from a real probe of a tiny model."""

from __future__ import annotations

import numpy as np
import pytest

from diagnostics import load_backbone, probe
from figures.curves.probe_report import probe_figures
from figures.maps.query_maps import attention_matrices, query_maps


@pytest.fixture(scope="module")
def asked():
    images = [np.random.default_rng(n).integers(0, 256, (64, 96, 3), dtype=np.uint8) for n in range(2)]
    measures = ["query-attention:patches=3+10", "patch-similarity:patches=3+10", "attention-maps:heads=mean"]
    return probe(load_backbone("tiny:depth=3"), images, measures=measures, size="native")


def drawn(figure):
    return {ax.get_label(): ax.images[0].get_array() for ax in figure.axes if ax.images}


def test_each_query_has_a_row_of_maps_over_the_layers(asked):
    maps = drawn(query_maps(asked))
    assert len([label for label in maps if label.startswith("query_attention_10")]) == 3
    expected = asked["query_attention"].isel(image=0).sel(layer=2, query=10).mean("head")
    # A logarithmic scale lifts the lowest values to its end; all others are drawn as they are.
    got = np.asarray(maps["query_attention_10 2"])
    assert np.isclose(got, expected, rtol=1e-5).mean() > 0.9
    assert (got >= expected.values - 1e-6).all()
    assert np.allclose(maps["patch_similarity_3 1"], asked["patch_similarity"].isel(image=0).sel(layer=1, query=3))


def test_rows_are_named_by_their_patch(asked):
    texts = [text.get_text() for text in query_maps(asked).texts]
    assert [text for text in texts if "patch 10" in text]
    assert [text for text in texts if "patch 3" in text]


def test_whole_maps_show_every_token(asked):
    maps = drawn(attention_matrices(asked, "image-0002"))
    assert maps["attention_mean 3"].shape == (25, 25)
    assert np.allclose(maps["attention_mean 3"], asked["attention_mean"].isel(image=1).sel(layer=3), rtol=1e-5)


def test_the_report_has_them_for_each_image(asked):
    names = [name for name, _ in probe_figures(asked, maps_for=1)]
    assert names == ["queries_image-0001", "attention_image-0001"]


def test_a_data_set_without_them_says_what_is_needed():
    dataset = probe(load_backbone("tiny:depth=3"), [np.zeros((64, 64, 3), np.uint8)], measures=["norms"])
    with pytest.raises(ValueError, match="query_attention"):
        query_maps(dataset)
    with pytest.raises(ValueError, match="attention"):
        attention_matrices(dataset)
