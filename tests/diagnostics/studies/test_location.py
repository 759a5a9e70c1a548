"""Marked tokens are found where they are: counted by hand on images of flat and checkered patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

from diagnostics import image_paths
from diagnostics.layout import Grid
from diagnostics.studies.location import border_distance, location_table, patch_contrast, patch_places
from diagnostics.studies.scoring import score_images

PATCH = (16, 16)


def half_checkered(rows: int = 4, cols: int = 6) -> np.ndarray:
    """Left half gray, right half a checkerboard of black and white pixels, whose spread is 0.5."""
    y, x = np.mgrid[: rows * 16, : cols * 16]
    gray = np.where(x < cols * 8, 77, (x + y) % 2 * 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def table_of(scores, images, **settings):
    return location_table(scores, patch_places(scores, images, **settings))


def dataset(marks: dict[str, list[tuple[int, int, int]]], grids: list[Grid], *, size: str, names=None) -> xr.Dataset:
    """What score_images would give, with marks at (image, row, col) of a single layer."""
    rows, cols = max(grid.rows for grid in grids), max(grid.cols for grid in grids)
    inside = np.zeros((len(grids), rows, cols), bool)
    for number, grid in enumerate(grids):
        inside[number, : grid.rows, : grid.cols] = True
    marked = np.zeros((len(marks), len(grids), 1, rows, cols), bool)
    for number, places in enumerate(marks.values()):
        for image, row, col in places:
            marked[number, image, 0, row, col] = True
    return xr.Dataset(
        {
            "marked": (("detector", "image", "layer", "row", "col"), marked),
            "inside": (("image", "row", "col"), inside),
        },
        coords={
            "detector": list(marks),
            "layer": [8],
            "image": names or [f"image-{number + 1:04d}" for number in range(len(grids))],
        },
        attrs={"size": size},
    )


def test_shares_and_means_are_those_counted_by_hand():
    # 4 x 6 patches: 16 at the border and 8 one patch from it. Left half flat, right half with contrast 0.5.
    marks = {"flat": [(0, 0, 0), (0, 1, 1), (0, 2, 2)], "busy": [(0, 1, 4), (0, 3, 5)], "nothing": []}
    labels = np.zeros((64, 96), int)
    labels[:, 32:] = 5  # background in the first two columns of patches
    labels[:16, 80:] = 255  # one patch is ignored
    labels[48:, 80:] = 255  # and the one that `busy` marks
    table = table_of(
        dataset(marks, [Grid(4, 6)], size="96x64"), half_checkered(), patch_size=PATCH, labels=[labels]
    ).set_index("detector")
    assert table["tokens"].to_dict() == {"flat": 3, "busy": 2, "nothing": 0}
    assert (table["tokens_all"] == 24).all()
    assert table["contrast"].tolist() == pytest.approx([0, 0.5, np.nan], nan_ok=True)
    assert table["contrast_all"].tolist() == pytest.approx([0.25] * 3)
    assert table["border"].tolist() == pytest.approx([2 / 3, 1 / 2, np.nan], nan_ok=True)
    assert table["border_all"].tolist() == pytest.approx([8 / 24] * 3)
    assert table["labeled"].to_dict() == {"flat": 3, "busy": 1, "nothing": 0}
    assert table["background"].tolist() == pytest.approx([2 / 3, 0, np.nan], nan_ok=True)
    assert (table["labeled_all"] == 22).all()
    assert table["background_all"].tolist() == pytest.approx([8 / 22] * 3)


def test_the_classes_of_the_background_are_a_setting():
    labels = np.zeros((64, 96), int)
    labels[:, 48:] = 7
    scores = dataset({"busy": [(0, 1, 4), (0, 3, 1)]}, [Grid(4, 6)], size="96x64")
    row = table_of(scores, half_checkered(), patch_size=PATCH, labels=[labels], background=(7, 9), ignore=(0,)).loc[0]
    assert (row["labeled"], row["labeled_all"], row["background"], row["background_all"]) == (1, 12, 1, 1)


def test_images_of_several_sizes_count_by_their_own_grid():
    scores = dataset({"one": [(0, 1, 1), (1, 2, 2)]}, [Grid(4, 6), Grid(5, 5)], size="native")
    table = table_of(scores, [half_checkered(), half_checkered(5, 5)], patch_size=PATCH)
    assert table.loc[0, "tokens_all"] == 24 + 25
    assert table.loc[0, "border"] == pytest.approx((1 + 2) / 2)
    assert table.loc[0, "border_all"] == pytest.approx((8 + 8 + 2) / 49)
    assert list(table.columns) == [
        "detector", "layer", "tokens", "tokens_all", "contrast", "contrast_all", "border", "border_all",
    ]  # fmt: skip


def test_files_are_found_again_by_the_names_of_the_run(tiny, tmp_path):
    (tmp_path / "labels").mkdir()
    for number in range(3):
        image = np.full((64, 64, 3), 80, np.uint8)
        image[16:32, 16:32] = half_checkered()[:16, 64:80]
        Image.fromarray(np.roll(image, 16 * number, axis=1)).save(tmp_path / f"{number}.png")
        if number < 2:
            labels = np.full((64, 64), number, np.uint8)
            Image.fromarray(labels).save(tmp_path / "labels" / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    scores = score_images(tiny, paths, ["norm-topk:count=2"], layers=[3, 6])
    assert list(scores["image"].values) == list(image_paths(paths))
    table = table_of(scores.isel(image=[2, 0, 1]), paths, patch_size=PATCH, labels=tmp_path / "labels")
    assert table["layer"].tolist() == [3, 6]
    assert (table["tokens"] == 6).all()
    assert (table["labeled"] == 4).all()  # the third image has no label map
    assert (table["background"] == 0.5).all()
    assert table["contrast_all"].tolist() == pytest.approx([0.5 / 16] * 2)


def test_contrast_counts_no_padding():
    image = torch.rand(3, 20, 37, generator=torch.Generator().manual_seed(0))
    contrast = patch_contrast(image, PATCH)
    assert contrast.shape == (2, 3)
    gray = (image[0] * 0.299 + image[1] * 0.587 + image[2] * 0.114).numpy()
    # Padding: 12 rows and 11 columns, of which 6 above and 5 to the left.
    assert contrast[0, 0] == pytest.approx(gray[:10, :11].std(), rel=1e-5)
    assert contrast[1, 2] == pytest.approx(gray[10:, 27:].std(), rel=1e-5)


def test_the_border_is_at_distance_zero():
    assert border_distance(Grid(3, 5)).tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert border_distance(Grid(1, 1)).tolist() == [[0]]


def test_what_does_not_belong_together_is_refused():
    scores = dataset({"one": [(0, 0, 0)]}, [Grid(4, 6)], size="96x64")
    with pytest.raises(ValueError, match=r"not among them, the first `a\.png`"):
        table_of(scores.assign_coords(image=["a.png"]), half_checkered(), patch_size=PATCH)
    with pytest.raises(ValueError, match=r"8x12 patches .* scored with 4x6"):
        table_of(scores, half_checkered(), patch_size=(8, 8))
    with pytest.raises(ValueError, match="should have `inside`"):
        table_of(scores.drop_vars("inside"), half_checkered(), patch_size=PATCH)
    with pytest.raises(ValueError, match="how images were shown"):
        table_of(scores.assign_attrs({}).drop_attrs(), half_checkered(), patch_size=PATCH)
