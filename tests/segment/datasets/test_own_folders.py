"""A user's own images and label maps: one map an image, values of other rules are noticed, colors can be read."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from PIL import Image

from diagnostics.images.label_maps import LabelError, read_labels
from diagnostics.images.label_palette import Palette
from segment.datasets import open_dataset
from segment.datasets.arrangement import DatasetError
from segment.datasets.check import check
from segment.evaluation.engines.local import Local
from segment.evaluation.evaluate import evaluate

HALF = np.zeros((48, 64), np.uint8)
HALF[:, 32:] = 1


@pytest.fixture
def root(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "classes.txt").write_text("zebra\ntiger\n")
    return tmp_path


def image(path, size=(64, 48), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def mask(path, values=HALF):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (["train/a.jpg", "val/a.jpg"], ["a.png"]),
        (["a.jpg", "a.png"], ["a.png"]),
        (["a.jpg", "val/a.jpg"], ["a.png"]),
        (["x/val/a.jpg", "y/val/a.jpg", "b.jpg"], ["val/a.png", "b.png"]),
        (["caf\u00e9.jpg", "val/cafe\u0301.jpg"], ["caf\u00e9.png"]),
    ],
)
def test_namesakes_never_share_a_label_map(root, images, masks):
    for name in images:
        image(root / "images" / name)
    for name in masks:
        mask(root / "masks" / name)
    with pytest.raises(DatasetError, match="would be the label map of both"):
        open_dataset("folder", root)
    assert "would be the label map of both" in check("folder", root).problems[0]


def test_namesakes_with_a_map_each_have_their_own(root):
    for name in ("train/a", "val/a"):
        image(root / f"images/{name}.jpg")
        mask(root / f"masks/{name}.png")
    pairs = open_dataset("folder", root).listing.pairs
    assert [pair.mask for pair in pairs] == [str(root / f"masks/{name}.png") for name in ("train/a", "val/a")]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_label_map_is_found_however_its_accents_are_written(root, form):
    image(root / "images" / f"{unicodedata.normalize(form, 'é')}.jpg")
    mask(root / "masks" / f"{unicodedata.normalize({'NFC': 'NFD', 'NFD': 'NFC'}[form], 'é')}.png")
    assert np.array_equal(open_dataset("folder", root)[0].labels, HALF)


def test_binary_masks_are_noticed_and_can_be_read(root):
    image(root / "images/a.png")
    mask(root / "masks/a.png", HALF * 255)
    assert any("binary masks 255 is the foreground" in problem for problem in check("folder", root).problems)
    assert any("class 1 (tiger)" in note for note in check("folder", root).notes)
    assert check("folder:values=0+255", root).complete
    assert np.array_equal(open_dataset("folder:values=0+255", root)[0].labels, HALF)


@pytest.mark.parametrize("values", ["0", "0+0", "0+x", "0+1+2", ""])
def test_values_that_are_not_one_a_class_are_refused(root, values):
    image(root / "images/a.png")
    mask(root / "masks/a.png")
    with pytest.raises(ValueError, match="2 different numbers"):
        open_dataset(f"folder:values={values}", root)


def test_maps_that_count_from_one_are_noticed(root):
    (root / "classes.txt").write_text("zebra\ntiger\ngrass\n")
    image(root / "images/a.png")
    mask(root / "masks/a.png", HALF + 1)
    report = check("folder", root)
    assert any("first=1" in problem for problem in report.problems)
    assert any("class 0 (zebra)" in note for note in report.notes)
    mask(root / "masks/a.png", HALF + 2)  # 3 is no class of three
    assert any("holds the values 3" in problem and "first=1" in problem for problem in check("folder", root).problems)
    assert np.array_equal(open_dataset("folder:first=1", root)[0].labels, HALF + 1)


def test_an_evaluation_names_the_classes_that_occur_nowhere(root, tmp_path):
    image(root / "images/a.png")
    mask(root / "masks/a.png", HALF * 255)
    with pytest.warns(UserWarning, match=r"none of the 1 label maps scored: class 1 \(tiger\)\. .*values=0\+255"):
        evaluate("pocket", "clip", "folder", root=root, out=tmp_path / "out", engine=Local(workers=1), progress=False)


def turned(root, orientation, size=(64, 48)):
    """An image whose pixels say where its label map has 1, stored under an EXIF orientation."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = 255
    turned_image = Image.fromarray(pixels)
    exif = turned_image.getexif()
    exif[274] = orientation
    turned_image.save(root / "images/a.png", exif=exif.tobytes())
    mask(root / "masks/a.png", (pixels[..., 0] > 0).astype(np.uint8))


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_one_rule_says_what_label_maps_of_turned_images_belong_to(root, orientation):
    turned(root, orientation)

    def agree(spec):
        sample = open_dataset(spec, root)[0]
        return ((sample.image[..., 0] > 128) == (sample.labels == 1)).mean()

    assert (agree("folder:exif=stored"), agree("folder"), agree("folder:exif=upright")) == (1.0, 0.5, 0.5)
    assert any("turned by their EXIF" in problem for problem in check("folder", root).problems)
    assert check("folder:exif=stored", root).complete
    assert check("folder:exif=upright", root).complete


def test_a_map_of_the_stored_pixels_that_can_not_fit_says_what_to_set(root):
    turned(root, 6)
    with pytest.raises(LabelError, match="exif=stored"):
        open_dataset("folder", root)[0]
    sample = open_dataset("folder:exif=stored", root)[0]
    assert np.array_equal(sample.image[..., 0] > 0, sample.labels == 1)


def colored(root, colors):
    image(root / "images/a.png")
    mask(root / "masks/a.png", np.array(colors, np.uint8)[HALF])


@pytest.mark.parametrize("lines", ["#800000\n#004000", "128 0 0\n0,64,0", "\ufeff[128,0,0],\r\n(0, 64, 0)\r\n#ffffff"])
def test_colors_are_read_by_a_palette(root, lines):
    colored(root, [(128, 0, 0), (0, 64, 0)])
    (root / "palette.txt").write_bytes(lines.encode())
    assert np.array_equal(open_dataset("folder:palette=palette.txt", root)[0].labels, HALF)
    with pytest.raises(LabelError, match="palette=FILE"):
        open_dataset("folder", root)[0]


def test_a_further_color_is_not_scored_and_an_unknown_one_is_named(root):
    colored(root, [(128, 0, 0), (9, 9, 9)])
    (root / "palette.txt").write_text("#800000\n#004000\n#090909")
    assert np.array_equal(open_dataset("folder:palette=palette.txt", root)[0].labels, HALF * 255)
    (root / "palette.txt").write_text("#800000\n#004000")
    with pytest.raises(LabelError, match="colors that the palette lacks: #090909"):
        open_dataset("folder:palette=palette.txt", root)[0]


@pytest.mark.parametrize("lines", ["#800000", "#800000\n#800000", "red\n#004000", "300 0 0\n0 0 0", "1 2\n3 4"])
def test_palettes_of_another_form_are_refused(root, lines):
    colored(root, [(128, 0, 0), (0, 64, 0)])
    (root / "palette.txt").write_text(lines)
    with pytest.raises(LabelError, match=r"palette\.txt"):
        open_dataset("folder:palette=palette.txt", root)


def test_grays_in_three_channels_are_numbers_where_that_is_said(root):
    colored(root, [(0, 0, 0), (1, 1, 1)])
    assert np.array_equal(open_dataset("folder:palette=gray", root)[0].labels, HALF)
    colored(root, [(0, 0, 0), (1, 1, 2)])
    with pytest.raises(LabelError, match="three equal channels"):
        read_labels(root / "masks/a.png", palette=Palette({}, grays=True))


def test_a_list_with_a_byte_order_mark_names_its_first_image(tmp_path):
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("x1", "x2"):
        image(tmp_path / f"JPEGImages/{name}.jpg")
        mask(tmp_path / f"SegmentationClass/{name}.png")
    (tmp_path / "ImageSets/Segmentation/val.txt").write_bytes("\ufeffx1\r\nx2\r\n".encode())
    pairs = open_dataset("voc21", tmp_path).listing.pairs
    assert [pair.name for pair in pairs] == ["x1", "x2"]
    assert all("\ufeff" not in pair.mask for pair in pairs)
