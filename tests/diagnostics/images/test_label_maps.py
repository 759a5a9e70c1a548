"""Label maps keep their class numbers from file to patch, or are refused by name."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from diagnostics.images.label_maps import LabelError, find_label, patch_labels, read_labels, resize_labels
from diagnostics.layout import grid_of, padding_to_patches
from diagnostics.measures.base import UNLABELED


def class_map(height: int = 5, width: int = 7, classes: int = 21) -> np.ndarray:
    return np.random.default_rng(0).integers(0, classes, (height, width))


def palette_image(labels: np.ndarray) -> Image.Image:
    """Colors that have nothing to do with the indices, as PASCAL VOC's have not."""
    image = Image.frombytes("P", labels.shape[::-1], labels.astype(np.uint8).tobytes())
    image.putpalette(np.random.default_rng(1).integers(0, 256, 768).tolist())
    return image


def gray_png(path: Path, labels: np.ndarray, bits: int) -> None:
    """A gray PNG of 2 or 4 bits, which Pillow reads but does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b""
    for row in labels:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")
    header = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], bits, 0, 0, 0, 0)
    pieces = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + pieces)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


# Finding


def test_a_label_map_has_its_images_name_and_png_comes_first(tmp_path):
    image = touch(tmp_path / "JPEGImages/2007_1.jpg")
    touch(tmp_path / "SegmentationClass/2007_1.tif")
    assert find_label(image, tmp_path / "SegmentationClass").suffix == ".tif"
    wanted = touch(tmp_path / "SegmentationClass/2007_1.png")
    assert find_label(image, tmp_path / "SegmentationClass") == wanted
    assert find_label(str(image), str(tmp_path / "SegmentationClass")) == wanted


def test_the_images_own_sub_folder_comes_first(tmp_path):
    image = touch(tmp_path / "images/validation/a.jpg")
    flat = touch(tmp_path / "annotations/a.png")
    assert find_label(image, tmp_path / "annotations") == flat
    touch(tmp_path / "annotations/training/a.png")
    nested = touch(tmp_path / "annotations/validation/a.png")
    assert find_label(image, tmp_path / "annotations") == nested


def test_a_name_with_dots_keeps_them_and_capital_suffixes_are_found(tmp_path):
    image = touch(tmp_path / "images/a.b.c.jpg")
    touch(tmp_path / "labels/a.png")
    wanted = touch(tmp_path / "labels/a.b.c.PNG")
    assert find_label(image, tmp_path / "labels") == wanted


def test_a_image_is_never_its_own_label_map(tmp_path):
    image = touch(tmp_path / "a.png")
    with pytest.raises(LabelError):
        find_label(image, tmp_path)
    touch(tmp_path / "a.tif")
    assert find_label(image, tmp_path) == tmp_path / "a.tif"


def test_a_missing_label_map_names_image_and_folder(tmp_path):
    (tmp_path / "labels").mkdir()
    with pytest.raises(LabelError) as caught:
        find_label(tmp_path / "images/a.jpg", tmp_path / "labels")
    for word in (str(tmp_path / "labels"), str(tmp_path / "images/a.jpg"), ".png"):
        assert word in str(caught.value)
    with pytest.raises(LabelError, match=r"no_labels: is not a directory of label maps.*a\.jpg"):
        find_label("a.jpg", tmp_path / "no_labels")


# Reading


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp"])
@pytest.mark.parametrize("kind", ["palette", "gray"])
def test_palette_and_gray_files_give_their_class_numbers(tmp_path, suffix, kind):
    path = tmp_path / f"labels.{suffix}"
    labels = class_map()
    labels[0, :2] = 255, 0
    image = palette_image(labels) if kind == "palette" else Image.fromarray(labels.astype(np.uint8))
    image.save(path)
    numbers = read_labels(path, expected_size=(7, 5))
    assert numbers.dtype == np.int64
    assert np.array_equal(numbers, labels)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_files_keep_847_classes_and_their_ignore_value(tmp_path, suffix):
    path = tmp_path / f"labels.{suffix}"
    labels = class_map(classes=847)
    labels[2, 2] = 65535
    Image.fromarray(labels.astype(np.uint16)).save(path)
    assert np.array_equal(read_labels(path), labels)


def test_32_bit_and_one_bit_files_are_read(tmp_path):
    labels = class_map(classes=100_000)
    Image.fromarray(labels.astype(np.int32)).save(tmp_path / "long.tiff")
    assert np.array_equal(read_labels(tmp_path / "long.tiff"), labels)
    Image.fromarray((labels % 2 * 255).astype(np.uint8)).convert("1").save(tmp_path / "bits.png")
    assert np.array_equal(read_labels(tmp_path / "bits.png"), labels % 2)


@pytest.mark.parametrize("bits", [2, 4])
def test_gray_of_few_bits_is_not_stretched_to_255(tmp_path, bits):
    path = tmp_path / "labels.png"
    labels = class_map(classes=2**bits)
    gray_png(path, labels, bits)
    assert np.asarray(Image.open(path)).max() == 255  # what reading it as an image gives
    assert np.array_equal(read_labels(path), labels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_few_bits_give_their_indices(tmp_path, bits):
    path = tmp_path / "labels.png"
    labels = class_map(classes=2**bits)
    palette_image(labels).save(path, bits=bits)
    assert np.array_equal(read_labels(path), labels)


def test_a_map_of_another_size_names_both_sizes(tmp_path):
    path = tmp_path / "labels.png"
    palette_image(class_map()).save(path)
    with pytest.raises(LabelError, match=r"labels\.png: is 7x5 \(width x height\), but its image is 8x5"):
        read_labels(path, expected_size=(8, 5))
    with pytest.raises(LabelError, match=r"7x5.*image is 5x7.*EXIF"):
        read_labels(path, expected_size=(5, 7))


def test_a_map_with_an_orientation_of_its_own_is_turned_as_it_is_displayed(tmp_path):
    path = tmp_path / "labels.png"
    exif = Image.Exif()
    exif[274] = 6
    palette_image(class_map()).save(path, exif=exif)
    assert np.array_equal(read_labels(path, expected_size=(5, 7)), np.rot90(class_map(), -1))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colors_and_alpha_are_no_class_numbers(tmp_path, mode):
    path = tmp_path / "labels.png"
    Image.new(mode, (3, 2)).save(path)
    with pytest.raises(LabelError, match=rf"colors or alpha \(mode {mode}\), not class numbers.*one channel"):
        read_labels(path)


def test_fractions_negative_numbers_and_grays_from_white_are_refused(tmp_path):
    path = tmp_path / "labels.tiff"
    Image.fromarray(np.ones((2, 3), np.float32)).save(path)
    with pytest.raises(LabelError, match="holds fractions"):
        read_labels(path)
    Image.fromarray(np.array([[-1, 3]], np.int32)).save(path)
    with pytest.raises(LabelError, match="negative class numbers, down to -1"):
        read_labels(path)
    Image.fromarray(np.array([[1, 3]], np.uint8)).save(path, tiffinfo={262: 0})
    with pytest.raises(LabelError, match="from white"):
        read_labels(path)


def test_formats_that_change_class_numbers_and_broken_files_are_refused(tmp_path):
    gray = Image.fromarray(class_map().astype(np.uint8))
    for suffix in ("jpg", "pgm", "gif"):
        gray.save(tmp_path / f"labels.{suffix}")
        with pytest.raises(LabelError, match=r"no label map that can be read \(readable: PNG.*JPEG and GIF change"):
            read_labels(tmp_path / f"labels.{suffix}")
    noise = np.random.default_rng(3).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    touch(tmp_path / "empty.png")
    for name, words in {"cut": "cut short", "empty": "is empty", "missing": "does not exist"}.items():
        with pytest.raises(LabelError, match=words):
            read_labels(tmp_path / f"{name}.png")
    gray.save(tmp_path / "pages.tiff", save_all=True, append_images=[gray])
    with pytest.raises(LabelError, match="holds 2 frames"):
        read_labels(tmp_path / "pages.tiff")
    gray.save(tmp_path / "huge.png")
    with pytest.raises(LabelError, match="35 pixels, and 34"):
        read_labels(tmp_path / "huge.png", max_pixels=34)


# Resizing


def test_resizing_takes_the_label_under_each_pixel_center():
    labels = np.array([[1, 2, 3]])
    assert resize_labels(labels, 1, 6).tolist() == [[1, 1, 2, 2, 3, 3]]
    assert resize_labels(labels, 2, 1).tolist() == [[2], [2]]
    assert resize_labels(labels, 1, 2).tolist() == [[1, 3]]  # centers at 0.75 and 2.25
    assert resize_labels(labels, 1, 3) is not labels
    assert resize_labels(labels, 1, 3).tolist() == labels.tolist()


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (10, 14), (5, 3), (13, 29), (224, 224)])
def test_resizing_agrees_with_torch_nearest_exact(size):
    labels = class_map(10, 14, 847)
    by_torch = F.interpolate(torch.from_numpy(labels)[None, None].double(), size=size, mode="nearest-exact")
    assert np.array_equal(resize_labels(labels, *size), by_torch[0, 0].long().numpy())


def test_resizing_refuses_other_shapes_and_sizes():
    with pytest.raises(ValueError, match=r"should be \(h, w\)"):
        resize_labels(np.zeros((1, 2, 2), np.int64), 2, 2)
    with pytest.raises(ValueError, match="height x width = 0x2"):
        resize_labels(np.zeros((2, 2), np.int64), 0, 2)


# Voting


def vote_by_loop(labels: torch.Tensor, patch_size: tuple[int, int], ignore: set[int]) -> torch.Tensor:
    """Patch by patch and pixel by pixel, on the image itself: no padded map."""
    height, width = labels.shape[-2:]
    grid, padding = grid_of((height, width), patch_size), padding_to_patches((height, width), patch_size)
    out = torch.full((len(labels), grid.patches), UNLABELED)
    for image, rows in enumerate(labels.tolist()):
        for row in range(grid.rows):
            for col in range(grid.cols):
                votes = Counter(
                    rows[y][x]
                    for y in range(row * patch_size[0] - padding.top, (row + 1) * patch_size[0] - padding.top)
                    for x in range(col * patch_size[1] - padding.left, (col + 1) * patch_size[1] - padding.left)
                    if 0 <= y < height and 0 <= x < width
                )
                winner = min(votes, key=lambda label: (-votes[label], label))
                out[image, row * grid.cols + col] = UNLABELED if winner in ignore else winner
    return out


@pytest.mark.parametrize("size", [(16, 16), (17, 30), (1, 1), (3, 50), (7, 8)])
@pytest.mark.parametrize("patch_size", [(4, 4), (8, 4), (5, 7), (1, 1)])
def test_the_vote_is_that_of_a_slow_loop(size, patch_size):
    random = np.random.default_rng(4)
    labels = torch.from_numpy(random.choice([0, 1, 2, 846, 255, 65535], (3, *size)))
    votes = patch_labels(labels, patch_size, ignore=(255, 65535))
    assert votes.dtype == torch.int64
    assert torch.equal(votes, vote_by_loop(labels, patch_size, {255, 65535}))


def test_the_most_frequent_label_wins_and_the_smallest_of_equals():
    labels = torch.tensor([[3, 3, 9, 9, 255, 255], [3, 9, 2, 2, 255, 1]])
    assert patch_labels(labels, (2, 2)).tolist() == [[3, 2, UNLABELED]]


def test_ignored_labels_vote_and_a_patch_they_win_is_unlabeled():
    labels = torch.tensor([[0, 0, 0, 5], [255, 5, 255, 5]])
    assert patch_labels(labels, (2, 2), ignore=(0, 255)).tolist() == [[UNLABELED, 5]]
    assert patch_labels(labels, (2, 2)).tolist() == [[0, 5]]
    assert patch_labels(torch.full((2, 2), 255), (2, 2), ignore=()).tolist() == [[255]]
    # Two ignored labels do not vote together: 5 has more pixels than either.
    assert patch_labels(torch.tensor([[5, 5], [0, 255]]), (2, 2), ignore=(0, 255)).tolist() == [[5]]


def test_padding_has_no_vote():
    # 1 x 5 pixels in 4 x 4 patches: padded to 4 x 8, one column more on the left of the 7s, two on the right of the 8s.
    assert patch_labels(torch.tensor([[7, 7, 7, 8, 8]]), (4, 4)).tolist() == [[7, 8]]
    # One pixel alone decides its patch against 195 padded ones.
    assert patch_labels(torch.tensor([[4]]), (14, 14)).tolist() == [[4]]


def test_a_batch_is_its_images_one_by_one_and_the_input_stays():
    labels = torch.from_numpy(np.random.default_rng(5).integers(0, 30, (4, 20, 33)))
    before = labels.clone()
    together = patch_labels(labels, (8, 8))
    assert together.shape == (4, 15)
    assert torch.equal(together, torch.cat([patch_labels(image, (8, 8)) for image in labels]))
    assert torch.equal(together, patch_labels(labels.to(torch.int32), (8, 8)))
    assert torch.equal(labels, before)


def test_labels_that_are_no_class_numbers_are_refused():
    with pytest.raises(ValueError, match=r"whole numbers of shape .* got torch\.float32"):
        patch_labels(torch.zeros(2, 2), (2, 2))
    with pytest.raises(ValueError, match=r"\(1, 1, 2, 2\)"):
        patch_labels(torch.zeros(1, 1, 2, 2, dtype=torch.long), (2, 2))
    with pytest.raises(ValueError, match="at least one pixel"):
        patch_labels(torch.zeros(1, 0, 2, dtype=torch.long), (2, 2))
    with pytest.raises(ValueError, match="0 or above; got -1"):
        patch_labels(torch.tensor([[-1, 0]]), (2, 2))
