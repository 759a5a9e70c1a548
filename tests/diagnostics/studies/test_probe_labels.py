"""Label maps of a probe: shown as colors, and pooled curves of a run that is opened again."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from diagnostics.measures.auc import SameClassAuc
from diagnostics.studies.probe import probe
from diagnostics.studies.store import OtherRun


@pytest.fixture
def folders(tmp_path):
    """Two images of 64 x 96 with label maps 0 | 2 as numbers, as colors, and as grays in three channels."""
    rng = np.random.default_rng(0)
    colors = np.array([(128, 0, 0), (0, 128, 0), (7, 7, 200)], np.uint8)
    for name in ("images", "numbers", "colors", "grays"):
        (tmp_path / name).mkdir()
    for number in range(2):
        labels = np.zeros((64, 96), np.uint8)
        labels[:, 32 + 16 * number :] = 2
        Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(tmp_path / f"images/{number}.png")
        Image.fromarray(labels).save(tmp_path / f"numbers/{number}.png")
        Image.fromarray(colors[labels]).save(tmp_path / f"colors/{number}.png")
        Image.fromarray(np.repeat(labels[..., None], 3, axis=2)).save(tmp_path / f"grays/{number}.png")
    (tmp_path / "palette.txt").write_text("\ufeff#800000\n0 128 0\n7 7 200\n", encoding="utf-8")
    return tmp_path


def measured(tiny, folders, labels, **settings):
    return probe(
        tiny, folders / "images", labels=folders / labels, measures=["auc"], size="native", layers=[1, 12], **settings
    )


def test_colors_with_their_palette_are_the_labels_that_they_stand_for(tiny, folders):
    expected = measured(tiny, folders, "numbers")["auc"].values
    assert np.isfinite(expected).all()
    colors = measured(tiny, folders, "colors", palette=folders / "palette.txt")
    np.testing.assert_array_equal(colors["auc"].values, expected)
    grays = measured(tiny, folders, "grays", palette="gray")
    np.testing.assert_array_equal(grays["auc"].values, expected)
    # Another order of the colors, with the same two classes apart, ignores the other one.
    (folders / "other.txt").write_text("#800000\n0 128 0\n1 1 1\n7 7 200\n")
    np.testing.assert_array_equal(
        measured(tiny, folders, "colors", palette=folders / "other.txt")["auc"].values, expected
    )
    ignored = measured(tiny, folders, "colors", palette=folders / "other.txt", ignore=[3])
    assert np.isnan(ignored["auc"].values).all()


def test_another_palette_is_another_run(tiny, folders):
    out = folders / "run.zarr"
    measured(tiny, folders, "colors", palette=folders / "palette.txt", out=out)
    (folders / "palette.txt").write_text("0 128 0\n#800000\n7 7 200\n")
    with pytest.raises(OtherRun, match="palette"):
        measured(tiny, folders, "colors", palette=folders / "palette.txt", out=out)


def test_a_palette_that_lacks_a_color_names_it(tiny, folders):
    (folders / "short.txt").write_text("#800000\n")
    with pytest.raises(ValueError, match="#0707c8"):
        measured(tiny, folders, "colors", palette=folders / "short.txt", strict=True)
    (folders / "empty.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"empty\.txt"):
        measured(tiny, folders, "colors", palette=folders / "empty.txt")


def test_coarse_bins_are_named_again_of_a_finished_run(tiny, folders):
    settings = {"labels": folders / "numbers", "size": "native", "layers": [12], "out": folders / "run.zarr"}
    for _ in range(2):
        with pytest.warns(UserWarning, match="layer 12: the pooled AUC may be off"):
            probe(tiny, folders / "images", measures=[SameClassAuc(pair_bins=2)], **settings)
