"""Files that are images to other programs are named with a reason; HEIC is read where pillow-heif is there."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

import diagnostics
from diagnostics.images import ImageError, find_images, open_image, read
from diagnostics.studies.store import left_out

HEIC = b"\0\0\0\x18ftypheic" + bytes(99)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    image.save(folder / "a.png")
    image.save(folder / "no_suffix", "PNG")
    image.save(folder / "b.tga")
    (folder / "IMG_1.HEIC").write_bytes(HEIC)
    (folder / "c.jxl").write_bytes(b"\xff\x0a" + bytes(99))
    (folder / "d").write_bytes(HEIC)
    (folder / "notes").write_text("a text")
    (folder / "notes.txt").write_text("a text")
    return folder


def test_a_folder_lists_what_is_an_image_elsewhere_and_no_text(folder):
    names = ["IMG_1.HEIC", "a.png", "b.tga", "c.jxl", "d", "no_suffix"]
    assert [path.name for path in find_images(folder)] == names
    assert sorted(path.name for path in find_images(f"{folder}/*")) == names


def test_a_run_measures_a_file_without_suffix_and_names_the_others(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(read, "_has_heif", lambda: False)
    dataset = diagnostics.probe(
        diagnostics.load_backbone("tiny"), folder, measures=["norms"], out=tmp_path / "run.zarr", progress=False
    )
    reasons = left_out(tmp_path / "run.zarr")
    assert set(reasons) == {"IMG_1.HEIC", "b.tga", "c.jxl", "d"}
    assert "pillow-heif" in reasons["IMG_1.HEIC"]
    assert "JPEG XL" in reasons["c.jxl"]
    measured = dataset["norm"].notnull().any(("layer", "row", "col"))
    assert dataset["image"].values[measured.values].tolist() == ["a.png", "no_suffix"]


def test_heic_without_its_library_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    read._has_heif.cache_clear()
    with pytest.raises(ImageError, match=r"needs pillow-heif\. Install it: pip install 'attention-outliers\[heic\]'"):
        open_image(folder / "IMG_1.HEIC")
    read._has_heif.cache_clear()


def test_heic_is_read_and_turned_once(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :48] = 250
    exif = Image.Exif()
    exif[274] = 6
    file = pillow_heif.from_pillow(Image.fromarray(pixels))
    file.save(tmp_path / "a.heic", exif=exif.tobytes(), quality=-1)
    shown = np.asarray(open_image(tmp_path / "a.heic")).astype(int)
    assert read.read_size(tmp_path / "a.heic") == shown.shape[1::-1] == (64, 96)
    assert np.abs(shown - np.rot90(pixels, -1)).mean() < 8
