"""A row for each outlier: against plain loops over one image at a time."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from PIL import Image

from diagnostics.backbones import load_backbone
from diagnostics.detectors.relative_norm import RelativeNorm
from diagnostics.studies import outlier_search
from diagnostics.studies.outlier_search import find_outliers
from diagnostics.studies.scoring import fit_detectors

SPECS = ["tiny:outliers=true", "tiny:class_token=false", "tiny:registers=4"]
NATIVE = {"size": "native", "batch": 2}


def expected_rows(backbone, recorded, images, layers, threshold):
    """(image, layer, row, col, token) -> norm, ratio; of patches whose norm is above `threshold` x the median."""
    rows = {}
    for number, image in enumerate(images, start=1):
        recording, cols = recorded(backbone, image), image.shape[1] // 16
        for layer in layers:
            tokens = recording["block_out", layer][0].double().numpy()
            norms = [float(np.sqrt((token**2).sum())) for token in tokens[backbone.prefix :]]
            for patch, norm in enumerate(norms):
                if norm > threshold * np.median(norms):
                    place = (f"image-{number:04d}", layer, patch // cols, patch % cols, backbone.prefix + patch)
                    rows[place] = (norm, norm / np.median(norms))
    return rows


@pytest.mark.parametrize("spec", SPECS)
def test_rows_are_those_of_a_plain_loop_over_images(spec, half_plain, recorded):
    backbone, threshold = load_backbone(spec), 3.0 if "outliers" in spec else 1.1
    table = find_outliers(backbone, half_plain, f"relative-norm:threshold={threshold}", layer=[7, -1], **NATIVE)
    expected = expected_rows(backbone, recorded, half_plain, [7, 12], threshold)
    assert len(expected) > 2
    places = list(table[["image", "layer", "row", "col", "token"]].itertuples(index=False, name=None))
    assert places == sorted(expected)
    assert np.allclose(table[["norm", "ratio"]], [expected[place] for place in places], rtol=1e-4)
    assert np.allclose(table["score"], table["ratio"], rtol=1e-4)


def test_one_layer_is_the_part_of_several(half_plain):
    backbone = load_backbone("tiny:outliers=true")
    every = find_outliers(backbone, half_plain, layer=None, **NATIVE)
    assert set(every["layer"]) == set(range(6, 13))  # block 6 writes them
    for layer in (5, 6, -1):
        part = find_outliers(backbone, half_plain, layer=layer, **NATIVE)
        wanted = every[every["layer"] == (layer if layer > 0 else 12)].reset_index(drop=True)
        assert part.equals(wanted) or (part.empty and wanted.empty)
    # numpy's integers are layers, too
    assert len(find_outliers(backbone, half_plain, layer=np.int64(6), **NATIVE)) == (every["layer"] == 6).sum()


def test_detectors_that_read_attention_or_learn_mark_what_they_mark_alone(half_plain, recorded):
    backbone = load_backbone("tiny:outliers=true")
    layout = backbone.layout((64, 96))
    images = half_plain[::2]
    for spec in ("som", "knn"):
        fitted = fit_detectors(backbone, images, spec, layers=[9], size="native")
        table = find_outliers(backbone, images, spec, layer=9, fitted=fitted, **NATIVE)
        tokens = []
        for image in images:
            mask = fitted[spec, 9](recorded(backbone, image).at(9), layout).mask[0]
            tokens.append([1 + patch for patch in range(24) if mask[patch]])
        names = table.attrs["images"]
        assert [table.loc[table["image"] == name, "token"].tolist() for name in names] == tokens
        assert any(tokens)


def test_an_image_without_outliers_has_no_row_and_an_unreadable_one_is_named(tmp_path, half_plain):
    for number, image in enumerate(half_plain[:2]):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "9.png").write_bytes(b"no image")
    backbone = load_backbone("tiny:outliers=true")
    with pytest.warns(UserWarning, match=r"left out \(1\)"):
        table = find_outliers(backbone, tmp_path, RelativeNorm(threshold=1e6))
    assert table.empty
    assert list(table.columns) == ["image", "layer", "row", "col", "token", "score", "norm", "ratio"]
    assert table.attrs["images"] == ["0.png", "1.png"]
    assert list(table.attrs["left_out"]) == ["9.png"]
    assert table.attrs["detector"] == "relative-norm:threshold=1000000.0"
    from_glob = find_outliers(backbone, str(tmp_path / "[01].png"))
    pils = find_outliers(backbone, [Image.fromarray(image) for image in half_plain[:2]])
    assert len(from_glob) == len(pils) > 0
    assert np.array_equal(from_glob["token"], pils["token"])
    with pytest.raises(ValueError, match=r"9\.png"):
        find_outliers(backbone, tmp_path, strict=True)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layer": 0}, "1…12"),
        ({"layer": 13}, "0…12"),
        ({"detector": "relativ-norm"}, "Did you mean `relative-norm`"),
        ({"batch": 0}, "`batch` should be at least 1"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message, tiny, half_plain):
    with pytest.raises(ValueError, match=message):
        find_outliers(tiny, half_plain, **settings)
    with pytest.raises(TypeError, match="no option `layers`"):
        find_outliers(tiny, half_plain, layers=[1])


def test_the_example_runs():
    results = doctest.testmod(outlier_search)
    assert results.attempted > 3
    assert results.failed == 0
