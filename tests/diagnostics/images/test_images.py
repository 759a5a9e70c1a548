"""Each kind of file that a folder of images may hold is made here, and either read rightly or refused by name."""

from __future__ import annotations

import inspect
import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from diagnostics import images
from diagnostics.images import (
    MAX_PIXELS,
    ImageError,
    Size,
    as_image,
    as_size,
    denormalize,
    find_images,
    load_image,
    normalize,
    open_image,
    parse_size,
    read_size,
    resize,
    to_tensor,
)
from diagnostics.registry import UnknownName


def colors(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 16, width: int = 24) -> np.ndarray:
    rows, cols = np.mgrid[:height, :width]
    return np.stack([rows * 8, cols * 6, 128 + rows - cols], axis=-1).astype(np.uint8)


def pixels(path: Path, **settings) -> np.ndarray:
    image = open_image(path, **settings)
    assert image.mode == "RGB"
    return np.asarray(image)


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[274] = orientation
    return block


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_header(width: int, height: int) -> bytes:
    """The beginning of a 1-bit gray PNG of any size; the few bytes of pixels in it are far too few."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 9))


# Finding


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a.PNG", "sub/c.tiff", "sub/deeper/d.webp", "notes.txt", ".hidden.jpg", ".cache/e.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"-")
    return tmp_path


def names(paths, folder):
    return [str(path.relative_to(folder)) for path in paths]


def test_a_folder_gives_its_images_sorted_and_leaves_hidden_and_other_files_out(folder):
    assert names(find_images([folder]), folder) == ["a.PNG", "b.jpg", "sub/c.tiff", "sub/deeper/d.webp"]


def test_globs_are_expanded_when_the_shell_did_not(folder):
    assert names(find_images([f"{folder}/*"]), folder) == ["a.PNG", "b.jpg", "sub/c.tiff", "sub/deeper/d.webp"]
    assert names(find_images([f"{folder}/*.jpg"]), folder) == ["b.jpg"]
    assert names(find_images(f"{folder}/**/*.webp"), folder) == ["sub/deeper/d.webp"]


def test_sources_keep_their_order_and_a_file_comes_once(folder):
    (folder / "link.jpg").symlink_to(folder / "b.jpg")
    paths = find_images([folder / "sub/c.tiff", folder / "link.jpg", folder, f"{folder}/sub/../b.jpg"])
    assert names(paths, folder) == ["sub/c.tiff", "link.jpg", "a.PNG", "sub/deeper/d.webp"]


def test_a_named_file_is_taken_whatever_its_suffix_and_a_name_with_brackets_is_no_glob(folder):
    (folder / "photo[1].raw").write_bytes(b"-")
    assert names(find_images([folder / "photo[1].raw", folder / ".hidden.jpg"]), folder) == [
        "photo[1].raw",
        ".hidden.jpg",
    ]


def test_links_to_folders_are_followed_and_a_link_back_up_ends(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("disk")
    (elsewhere / "far.png").write_bytes(b"-")
    (folder / "sub/data").symlink_to(elsewhere)
    (folder / "sub/up").symlink_to(folder)
    assert names(find_images([folder]), folder) == [
        "a.PNG",
        "b.jpg",
        "sub/c.tiff",
        "sub/data/far.png",
        "sub/deeper/d.webp",
    ]


def test_a_missing_file_an_unmatched_glob_an_empty_folder_and_nothing_are_named(folder):
    with pytest.raises(ValueError, match=r"there is no file or folder `.*missing\.jpg`"):
        find_images([folder / "missing.jpg"])
    with pytest.raises(ValueError, match=r"no image matches the glob `.*\*\.bmp`.*\.jpeg"):
        find_images([f"{folder}/*.bmp"])
    (folder / "empty").mkdir()
    with pytest.raises(ValueError, match=r"`.*empty` has no images .*no files at all"):
        find_images([folder, folder / "empty"])
    (folder / "empty/x.docx").write_bytes(b"-")
    with pytest.raises(ValueError, match=r"1 other files, among them \.docx.*Looked for .*\.webp"):
        find_images([folder / "empty"])
    with pytest.raises(ValueError, match="no images were given"):
        find_images([])


def test_a_folder_below_that_may_not_be_read_is_named(folder, monkeypatch):
    scandir = os.scandir

    def locked(place):
        if Path(place).name == "deeper":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(ValueError, match=r"deeper` can't be searched: Permission denied"):
        find_images([folder])


# Sizes


@pytest.mark.parametrize(
    "text, size, canonical",
    [
        ("224", (224, 224), "224"),
        ("336x224", (224, 336), "336x224"),
        (" 336X224 ", (224, 336), "336x224"),
        ("224x224", (224, 224), "224"),
        ("short:336", (336, 448), "short:336"),
        ("NATIVE", (375, 500), "native"),
    ],
)
def test_a_size_text_gives_height_and_width_of_a_500x375_image_and_comes_back(text, size, canonical):
    assert parse_size(text).of(500, 375) == size
    assert str(parse_size(text)) == canonical
    assert parse_size(canonical) == parse_size(text)


@pytest.mark.parametrize(
    "text", ["", "0", "0x5", "12x", "x12", "-3", "22.4", "short:", "short:3x4", "big", "٣", "1x2x3"]
)
def test_another_size_text_is_refused_with_the_forms(text):
    with pytest.raises(ValueError, match=r"`336x224` for width x height, `short:336`"):
        parse_size(text)


def test_a_short_side_is_limited_by_the_long_side_and_never_reaches_zero():
    size = parse_size("short:336")
    assert size.of(500, 375) == (336, 448)
    assert size.of(375, 500) == (448, 336)
    assert size.of(4096, 512) == (256, 2048)  # 512·(336/512) would make the long side 2688
    assert size.of(333, 500) == (505, 336)  # 500·336/333 = 504.50… is rounded, not cut
    assert size.of(100_000, 1) == (1, 2048)
    assert size.of(1, 1) == (336, 336)
    with pytest.raises(ValueError, match="at most 2048"):
        parse_size("short:2049")


def test_a_size_beyond_all_images_is_refused():
    assert parse_size("178956970x1").width == 178_956_970
    with pytest.raises(ValueError, match="at most 178,956,970 pixels; got 178956971x1"):
        parse_size("178956971x1")


def test_a_size_comes_from_a_side_or_a_tuple_of_height_and_width():
    assert as_size((224, 336)) == parse_size("336x224") == as_size("336x224")
    assert as_size(64) == as_size("64") == as_size(as_size(64))
    assert Size(short=48).of(96, 48) == (48, 96)
    for wrong in ({"height": 3}, {"height": 3, "width": 0}, {"height": 3, "width": 3, "short": 3}, {"short": 2.5}):
        with pytest.raises(ValueError, match=r"size|side"):
            Size(**wrong)
    with pytest.raises(TypeError, match="height, width"):
        as_size(2.5)  # type: ignore[arg-type]


# What is read rightly


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm", "webp"])
def test_lossless_color_images_come_back_pixel_by_pixel(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(colors()).save(path, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(pixels(path), colors())
    assert read_size(path) == (7, 5)


def test_what_is_inside_counts_and_not_the_suffix(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(colors()).save(path, "PNG")
    assert np.array_equal(pixels(path), colors())


# Where the stored pixel of row r, column c is shown, by EXIF's own words for its first row and first column.
TURNED = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg"])
@pytest.mark.parametrize("orientation", TURNED)
def test_images_are_turned_as_their_exif_says_and_so_is_their_size(tmp_path, suffix, orientation):
    path = tmp_path / f"image.{suffix}"
    stored = smooth() if suffix == "jpg" else colors()
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(stored).save(path, exif=exif(orientation), **options)
    shown = TURNED[orientation](stored)
    read = pixels(path)
    assert read.shape == shown.shape
    assert np.abs(read.astype(int) - shown).max() <= (4 if suffix == "jpg" else 0)
    assert read_size(path) == (shown.shape[1], shown.shape[0])


def test_a_compressed_tiff_is_turned_once(tmp_path):
    path = tmp_path / "image.tif"
    Image.fromarray(colors()).save(path, exif=exif(6), compression="tiff_lzw")
    assert np.array_equal(pixels(path), np.rot90(colors(), -1))


def test_an_orientation_behind_the_pixels_of_a_png_is_found(tmp_path):
    path = tmp_path / "image.png"
    buffer = io.BytesIO()
    Image.fromarray(colors()).save(buffer, "PNG")
    body, end = buffer.getvalue()[:-12], buffer.getvalue()[-12:]
    path.write_bytes(body + png_chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0")) + end)
    assert np.array_equal(pixels(path), np.rot90(colors(), -1))
    assert read_size(path) == (5, 7)


def test_the_size_of_a_png_is_read_without_its_pixels(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(png_header(300, 200))
    assert read_size(path) == (300, 200)
    with pytest.raises(ImageError, match="damaged or cut short"):
        open_image(path)


def test_damaged_exif_leaves_the_image_as_it_is_stored(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(smooth()).save(path, quality=100, subsampling=0, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff broken")
    assert read_size(path) == (24, 16)
    assert np.abs(pixels(path).astype(int) - smooth()).max() <= 4


def test_an_opened_image_is_not_turned_a_second_time(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(colors()).save(path, exif=exif(6))
    once = open_image(path)
    assert once.info == {}
    assert np.array_equal(np.asarray(as_image(once)), np.asarray(once))


def jpeg_of_one_block(stored: tuple[int, int, int, int], *, adobe: int) -> bytes:
    """An 8x8 four-channel JPEG, byte by byte: each channel one constant, no inversion or conversion by any library.

    `adobe`: the transform of the Adobe marker; 0 says CMYK, 2 says YCCK.
    """

    def segment(marker: int, data: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data

    lengths = bytes([0] * 3 + [12] + [0] * 12)  # twelve codes of 4 bits: category n has the code n
    bits = ""
    for value in stored:
        level = (value - 128) * 8  # the DC term of a constant block, quantized by 1
        category = abs(level).bit_length()
        bits += f"{category:04b}"
        if category:
            bits += f"{level if level > 0 else level + 2**category - 1:0{category}b}"
        bits += "0"  # end of block: the only AC code
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xEE, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, adobe)),
            segment(0xDB, b"\0" + b"\1" * 64),
            segment(0xC0, struct.pack(">BHHB", 8, 8, 8, 4) + b"".join(bytes([i, 0x11, 0]) for i in range(1, 5))),
            segment(0xC4, b"\x00" + lengths + bytes(range(12))),
            segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0"),
            segment(0xDA, b"\4" + b"".join(bytes([i, 0]) for i in range(1, 5)) + b"\0\x3f\0"),
            scan,
            b"\xff\xd9",
        ]
    )


@pytest.mark.parametrize(
    "inks, shown",
    [
        ((255, 0, 0, 0), (0, 255, 255)),  # cyan
        ((0, 255, 255, 0), (255, 0, 0)),  # magenta and yellow: red
        ((0, 0, 0, 255), (0, 0, 0)),  # black alone
        ((0, 0, 0, 0), (255, 255, 255)),  # bare paper
        ((0, 51, 102, 51), (204, 163, 122)),  # (1 - ink)·(1 - black)
    ],
)
def test_cmyk_and_ycck_jpegs_as_adobe_writes_them_have_their_colors(tmp_path, inks, shown):
    path = tmp_path / "print.jpg"
    inverted = tuple(255 - ink for ink in inks)
    path.write_bytes(jpeg_of_one_block(inverted, adobe=0))
    with Image.open(path) as file:
        assert file.mode == "CMYK"
    read = pixels(path)
    assert read.shape == (8, 8, 3)
    assert np.abs(read.astype(int) - shown).max() <= 1

    # YCCK holds the inks as RGB turned into Y, Cb, Cr (Rec. 601), and the black inverted.
    red, green, blue = inks[:3]
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    blues, reds = 128 + (blue - luma) / 1.772, 128 + (red - luma) / 1.402
    path.write_bytes(jpeg_of_one_block((*(min(255, round(x)) for x in (luma, blues, reds)), 255 - inks[3]), adobe=2))
    assert np.abs(pixels(path).astype(int) - shown).max() <= 3


def test_cmyk_tiff_keeps_its_colors(tmp_path):
    path = tmp_path / "print.tiff"
    Image.new("CMYK", (2, 2), (255, 0, 0, 0)).save(path)
    assert (pixels(path) == (0, 255, 255)).all()


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_gray_becomes_three_equal_channels(tmp_path, suffix):
    path = tmp_path / f"gray.{suffix}"
    Image.fromarray(colors()[..., 0]).save(path)
    assert np.array_equal(pixels(path), np.repeat(colors()[..., :1], 3, axis=-1))


def test_one_bit_images_are_black_and_white(tmp_path):
    for suffix in ("png", "pbm", "tiff"):
        path = tmp_path / f"bits.{suffix}"
        Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1").save(path)
        assert pixels(path)[0].tolist() == [[0] * 3, [255] * 3, [0] * 3]


def sixteen_bits(path: Path, values: np.ndarray) -> Path:
    if path.suffix == ".pgm":
        path.write_bytes(b"P5 %d %d 65535\n" % values.shape[::-1] + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values.astype(np.uint16)).save(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_a_sixteen_bit_ramp_stays_a_ramp(tmp_path, suffix):
    ramp = (np.arange(256) * 257)[None]
    read = pixels(sixteen_bits(tmp_path / f"ramp.{suffix}", ramp))
    assert np.array_equal(read[0], np.repeat(np.arange(256)[:, None], 3, axis=1))


def test_sixteen_bit_gray_is_rounded_and_not_cut(tmp_path):
    read = pixels(sixteen_bits(tmp_path / "gray.png", np.array([[128, 129, 65406, 65407]])))
    assert read[0, :, 0].tolist() == [0, 1, 254, 255]  # 128/257 = 0.498, 129/257 = 0.502


def tiff(path: Path, values: np.ndarray, *, bits: int, photometric: int, order: str = "<") -> Path:
    """A bare uncompressed gray TIFF, for what Pillow does not write."""
    tags = {256: values.shape[1], 257: values.shape[0], 258: bits, 259: 1, 262: photometric, 277: 1}
    if bits == 12:
        pairs = values.reshape(-1, 2)
        data = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs.tolist())
    else:
        data = values.astype(np.dtype(values.dtype).newbyteorder(order)).tobytes()
    if values.dtype.kind == "f":
        tags[339] = 3
    tags |= {273: 8, 278: values.shape[0], 279: len(data)}
    entries = b"".join(
        struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()) if tag not in (258, 339)
    )
    shorts = [struct.pack(f"{order}HHIHH", tag, 3, 1, tags[tag], 0) for tag in (258, 339) if tag in tags]
    entries = b"".join(
        sorted(
            [entries[i : i + 12] for i in range(0, len(entries), 12)] + shorts,
            key=lambda entry: struct.unpack(f"{order}H", entry[:2]),
        )
    )
    start = {"<": b"II*\0", ">": b"MM\0*"}[order]
    count = struct.pack(f"{order}H", len(tags))
    path.write_bytes(start + struct.pack(f"{order}I", 8 + len(data)) + data + count + entries + b"\0" * 4)
    return path


def test_big_endian_twelve_bit_and_white_is_zero_tiffs_are_scaled_by_their_own_white(tmp_path):
    values = np.array([[0, 257, 65535, 25700]], np.uint16)
    for photometric, gray in ((1, [0, 1, 255, 100]), (0, [255, 254, 0, 155])):
        read = pixels(tiff(tmp_path / "little.tif", values, bits=16, photometric=photometric))
        assert read[0, :, 0].tolist() == gray
    read = pixels(tiff(tmp_path / "big.tif", values, bits=16, photometric=1, order=">"))
    assert read[0, :, 0].tolist() == [0, 1, 255, 100]
    twelve = pixels(tiff(tmp_path / "twelve.tif", np.array([[0, 4095, 2048, 16]]), bits=12, photometric=1))
    assert twelve[0, :, 0].tolist() == [0, 255, 128, 1]


def test_float_gray_in_0_to_1_is_scaled_and_other_floats_are_refused(tmp_path):
    path = tmp_path / "float.tiff"
    Image.fromarray(np.array([[0.0, 1.0, 0.5, 0.25]], np.float32)).save(path)
    assert pixels(path)[0, :, 0].tolist() == [0, 255, 128, 64]
    inverted = tiff(tmp_path / "i.tif", np.array([[0.0, 1.0, 0.25]], np.float32), bits=32, photometric=0)
    assert pixels(inverted)[0, :, 0].tolist() == [255, 0, 191]
    for values in ([0.0, 1.5], [-0.1, 1.0], [0.0, np.nan]):
        Image.fromarray(np.array([values], np.float32)).save(path)
        with pytest.raises(ImageError, match=r"float values from .* Scale them to \[0, 1\]"):
            open_image(path)


def test_whole_numbers_beyond_sixteen_bits_are_refused(tmp_path):
    path = tmp_path / "long.tiff"
    Image.fromarray(np.array([[0, 65535]], np.int32)).save(path)
    assert pixels(path)[0, :, 0].tolist() == [0, 255]
    for values in ([0, 65536], [-1, 5]):
        Image.fromarray(np.array([values], np.int32)).save(path)
        with pytest.raises(ImageError, match=r"whole numbers from .*16-bit gray has 0 to 65535"):
            open_image(path)


def test_transparent_pixels_show_the_background(tmp_path):
    path = tmp_path / "alpha.png"
    rgba = np.array([[[200, 0, 0, 255], [9, 9, 9, 0], [0, 0, 0, 51]]], np.uint8)
    Image.fromarray(rgba).save(path)
    assert pixels(path)[0].tolist() == [[200, 0, 0], [255, 255, 255], [204, 204, 204]]
    assert pixels(path, background=(10, 20, 30))[0].tolist() == [[200, 0, 0], [10, 20, 30], [8, 16, 24]]
    with pytest.raises(ValueError, match="from 0 to 255"):
        open_image(path, background=(0, 0, 256))


def test_gray_with_alpha_and_transparent_palettes_show_the_background(tmp_path):
    path = tmp_path / "alpha.png"
    Image.merge(
        "LA", [Image.fromarray(np.array([[40, 40]], np.uint8)), Image.fromarray(np.array([[255, 0]], np.uint8))]
    ).save(path)
    assert pixels(path)[0].tolist() == [[40] * 3, [255] * 3]

    palette = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("L")
    palette = Image.frombytes("P", palette.size, palette.tobytes())
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.save(path)
    assert pixels(path)[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    palette.save(path, transparency=1)
    assert pixels(path)[0].tolist() == [[10, 20, 30], [255] * 3, [70, 80, 90]]
    palette.save(path, transparency=bytes([255, 255, 0]))
    assert pixels(path)[0].tolist() == [[10, 20, 30], [40, 50, 60], [255] * 3]
    palette.save(tmp_path / "still.gif", transparency=0)
    assert pixels(tmp_path / "still.gif")[0].tolist() == [[255] * 3, [40, 50, 60], [70, 80, 90]]


def test_a_transparent_gray_value_shows_the_background_at_8_and_16_bits(tmp_path):
    path = tmp_path / "key.png"
    Image.fromarray(np.array([[7, 40]], np.uint8)).save(path, transparency=7)
    assert pixels(path)[0].tolist() == [[255] * 3, [40] * 3]
    sixteen_bits(path, np.array([[700, 257 * 40]]))
    data = path.read_bytes()
    path.write_bytes(data[:33] + png_chunk(b"tRNS", struct.pack(">H", 700)) + data[33:])
    assert pixels(path)[0].tolist() == [[255] * 3, [40] * 3]


GRAY = Image.new("RGB", (3, 2), (120, 120, 120))
PALETTE = Image.new("PA", (3, 2), (0, 255))
PALETTE.putpalette([120, 120, 120])
MODES = {mode: GRAY.convert(mode) for mode in ("RGBA", "RGBX", "LA", "L", "HSV", "YCbCr", "LAB", "CMYK")}
MODES |= {"La": MODES["LA"].convert("La"), "RGBa": MODES["RGBA"].convert("RGBa"), "PA": PALETTE}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pil_becomes_rgb_near_its_colors(mode):
    image = as_image(MODES[mode])
    assert (image.mode, image.size) == ("RGB", (3, 2))
    assert np.abs(np.asarray(image).astype(int) - 120).max() <= 2


def test_a_one_pixel_image_is_read_and_grows(tmp_path):
    path = tmp_path / "dot.png"
    Image.new("RGB", (1, 1), (10, 20, 30)).save(path)
    assert read_size(path) == (1, 1)
    image = load_image(path, size="short:4", mean=(0, 0, 0), std=(1, 1, 1))
    assert image.shape == (3, 4, 4)
    assert torch.allclose(image, torch.tensor([10.0, 20.0, 30.0]).view(3, 1, 1).expand(3, 4, 4) / 255)


# What is refused


def test_empty_missing_foreign_and_folder_paths_are_named(tmp_path):
    cases = {
        "empty.jpg": "is empty",
        "text.jpg": "is not an image",
        "none.jpg": "does not exist",
        "folder": "is a folder",
    }
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("a recipe for soup\n" * 20)
    (tmp_path / "folder").mkdir()
    for name, reason in cases.items():
        for read in (open_image, read_size):
            with pytest.raises(ImageError) as caught:
                read(tmp_path / name)
            assert caught.value.path == tmp_path / name
            assert caught.value.reason.startswith(reason)
            assert str(tmp_path / name) in str(caught.value)
            assert caught.value.reason in str(caught.value)


def test_postscript_is_not_handed_to_another_program(tmp_path):
    path = tmp_path / "drawing.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="is not an image that can be read"):
        open_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tiff", "webp", "gif", "ppm"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert caught.value.path == path


def test_no_cut_or_scrambled_file_raises_anything_but_a_image_error(tmp_path):
    random = np.random.default_rng(2)
    outcomes = set()
    for suffix in ("jpg", "png", "tiff", "gif", "webp"):
        buffer = io.BytesIO()
        Image.fromarray(colors(16, 16)).save(buffer, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
        data = np.frombuffer(buffer.getvalue(), np.uint8)
        for turn in range(12):
            broken = data.copy()
            broken[random.integers(0, len(data), 8)] = random.integers(0, 256, 8)
            path = tmp_path / f"{turn}.{suffix}"
            path.write_bytes(broken[: random.integers(1, len(data))].tobytes())
            for read in (read_size, open_image):
                try:
                    read(path)
                    outcomes.add("read")
                except ImageError:
                    outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (4, 3), (60 * index, 0, 0)) for index in range(count)]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff"])
def test_several_frames_are_refused_unless_the_first_is_asked_for(tmp_path, suffix):
    path = tmp_path / f"moving.{suffix}"
    first, *others = frames(4)
    first.save(path, save_all=True, append_images=others, **({"lossless": True} if suffix == "webp" else {}))
    for read in (open_image, read_size):
        with pytest.raises(ImageError, match=r'holds 4 frames or pages.*frames="first"'):
            read(path)
    assert (pixels(path, frames="first") == 0).all()
    assert read_size(path, frames="first") == (4, 3)
    first.save(path, save_all=True)
    assert (pixels(path) == 0).all()
    with pytest.raises(UnknownName, match="Did you mean `first`"):
        open_image(path, frames="firs")  # type: ignore[arg-type]


def test_a_phone_photograph_with_a_preview_behind_it_is_one_image(tmp_path):
    path = tmp_path / "phone.jpg"
    photo = Image.fromarray(smooth())
    photo.save(path, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))], quality=100, subsampling=0)
    with Image.open(path) as file:
        assert file.n_frames == 2
    assert np.abs(pixels(path).astype(int) - smooth()).max() <= 4


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(png_header(20_000, 20_000))
    for read in (open_image, read_size):
        with pytest.raises(ImageError, match=r"more pixels than may be opened.*400000000"):
            read(path)
    path.write_bytes(png_header(20_000, 8_000))  # where Pillow only warns
    with pytest.raises(ImageError, match=r"20000x8000: 160,000,000 pixels, and 100,000,000 are allowed"):
        read_size(path, max_pixels=100_000_000)
    assert read_size(path) == (20_000, 8_000)
    assert Image.MAX_IMAGE_PIXELS is not None
    assert abs(MAX_PIXELS - 2 * Image.MAX_IMAGE_PIXELS) <= 1
    Image.fromarray(colors()).save(path)
    with pytest.raises(ImageError, match=r"7x5: 35 pixels, and 34 are allowed"):
        open_image(path, max_pixels=34)
    assert open_image(path, max_pixels=35).size == (7, 5)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path):
    path = tmp_path / "image.avif"
    Image.new("RGB", (16, 8), (200, 100, 50)).save(path, quality=100)
    assert read_size(path) == (16, 8)
    assert np.abs(pixels(path).astype(int) - (200, 100, 50)).max() <= 4


def test_a_image_error_survives_pickling(tmp_path):
    error = ImageError(tmp_path / "a.jpg", "is empty", "Fetch it again")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.path, copy.reason) == (str(error), error.path, error.reason)


def test_no_warning_of_pillow_leaks_and_the_filters_come_back(tmp_path):
    huge, damaged = tmp_path / "huge.png", tmp_path / "exif.jpg"
    huge.write_bytes(png_header(10_000, 10_000))
    Image.fromarray(smooth()).save(damaged, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff broken")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with Image.open(huge):
            pass
        assert [warning.category for warning in caught] == [Image.DecompressionBombWarning]
        caught.clear()
        assert read_size(huge) == (10_000, 10_000)
        with pytest.raises(ImageError):
            open_image(huge, max_pixels=10)
        open_image(damaged)
        assert caught == []
        assert list(warnings.filters) == before


def test_threads_that_read_at_once_leave_the_warning_filters_alone(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(colors(64, 64)).save(path)
    before = list(warnings.filters)
    decoded: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: decoded.extend(pixels(path) for _ in range(10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 40
    assert all(np.array_equal(image, colors(64, 64)) for image in decoded)
    assert list(warnings.filters) == before


# PIL images and arrays


def test_a_path_an_image_and_an_array_give_the_same_image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(colors()).save(path)
    for source in (path, str(path), Image.open(path), Image.fromarray(colors()), colors(), colors() / 255):
        assert np.array_equal(np.asarray(as_image(source)), colors())
    gray = colors()[..., 0]
    for source in (gray, (gray / 255).astype(np.float32), (gray / 255).astype(np.float16)):
        assert np.array_equal(np.asarray(as_image(source)), np.repeat(gray[..., None], 3, axis=-1))


def test_only_images_straight_from_a_file_are_turned(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(colors()).save(path, exif=exif(6))
    assert np.array_equal(np.asarray(as_image(Image.open(path))), np.rot90(colors(), -1))
    turned_by_hand = Image.open(path).transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(np.asarray(as_image(turned_by_hand)), np.rot90(colors(), -1))


def test_a_pil_image_of_a_cut_file_is_refused_by_its_name(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(png_header(30, 20))
    with pytest.raises(ImageError, match=r"cut\.png: is damaged"):
        as_image(Image.open(path))


@pytest.mark.parametrize(
    "array, error, words",
    [
        (np.zeros((3, 8, 9), np.uint8), ValueError, "Move the channels last"),
        (np.zeros((8, 9, 4), np.uint8), ValueError, "alpha channel"),
        (np.zeros((2, 8, 9, 3), np.uint8), ValueError, "batch one by one"),
        (np.zeros((0, 9, 3), np.uint8), ValueError, "at least 1x1"),
        (np.full((2, 2), np.nan), ValueError, r"\[0, 1\]; got values from nan"),
        (np.full((2, 2), 200.0), ValueError, "Divide by 255"),
        (np.full((2, 2, 3), -0.1), ValueError, r"from -0\.1"),
        (np.zeros((2, 2), np.int64), TypeError, "got int64"),
        (np.zeros((2, 2), bool), TypeError, "got bool"),
        (torch.zeros(3, 2, 2), TypeError, "got Tensor"),
    ],
)
def test_other_arrays_are_refused_with_what_to_do(array, error, words):
    with pytest.raises(error, match=words):
        as_image(array)


# To tensors


def test_resizing_to_the_same_size_returns_the_image_itself():
    image = Image.fromarray(colors())
    assert resize(image, 5, 7) is image


@pytest.mark.parametrize("resampling", ["bicubic", "bilinear", "lanczos", "nearest"])
def test_resizing_keeps_a_plain_color_and_gives_height_and_width(resampling):
    resized = resize(Image.new("RGB", (7, 5), (10, 200, 30)), 11, 3, resampling=resampling)
    assert resized.size == (3, 11)
    assert (np.asarray(resized) == (10, 200, 30)).all()


def test_shrinking_averages_and_nearest_does_not():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8)[None, :, None], (8, 32, 3)))
    for resampling in ("bicubic", "bilinear", "lanczos"):
        middle = np.asarray(resize(stripes, 8, 8, resampling=resampling))[:, 2:-2]
        assert np.abs(middle.astype(int) - 127).max() <= 4
    assert set(np.asarray(resize(stripes, 8, 8, resampling="nearest")).ravel()) <= {0, 255}


def test_an_unknown_resampling_and_a_size_of_zero_are_refused():
    image = Image.fromarray(colors())
    with pytest.raises(UnknownName, match="Did you mean `bicubic`"):
        resize(image, 3, 3, resampling="bicubik")
    with pytest.raises(ValueError, match="at least 1x1"):
        resize(image, 0, 3)


def test_a_tensor_has_channels_first_and_lies_in_0_to_1():
    tensor = to_tensor(Image.fromarray(colors()))
    assert (tensor.shape, tensor.dtype) == ((3, 5, 7), torch.float32)
    assert tensor.is_contiguous()
    for row, col, channel in ((0, 0, 0), (4, 6, 2), (2, 3, 1)):
        assert tensor[channel, row, col] == torch.tensor(colors()[row, col, channel] / 255, dtype=torch.float32)
    with pytest.raises(ValueError, match="8-bit RGB; got mode L"):
        to_tensor(Image.new("L", (2, 2)))


def test_normalizing_works_by_channel_on_any_batch_and_goes_back():
    images = torch.rand(2, 4, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.5, 0.1)
    normal = normalize(images, mean, std)
    assert torch.allclose(normal[..., 1, :, :], (images[..., 1, :, :] - 0.4) / 0.5)
    assert torch.allclose(normal[0, 0], normalize(images[0, 0], mean, std))
    assert torch.allclose(denormalize(normal, mean, std), images, atol=1e-6)


def test_normalizing_refuses_bytes_other_channels_and_a_zero_spread():
    with pytest.raises(ValueError, match=r"torch\.uint8"):
        normalize(torch.zeros(3, 2, 2, dtype=torch.uint8), (0, 0, 0), (1, 1, 1))
    with pytest.raises(ValueError, match=r"\(…, 3, h, w\)"):
        normalize(torch.zeros(2, 2, 3), (0, 0, 0), (1, 1, 1))
    with pytest.raises(ValueError, match="`std` above 0"):
        normalize(torch.zeros(3, 2, 2), (0, 0, 0), (1, 0, 1))


def test_a_image_is_loaded_upright_resized_and_normalized_in_one(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(colors(20, 30)).save(path, exif=exif(6))
    mean, std = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
    image = load_image(path, size="8x12", mean=mean, std=std)
    upright = Image.fromarray(np.ascontiguousarray(np.rot90(colors(20, 30), -1)))
    by_hand = torch.from_numpy(np.asarray(upright.resize((8, 12), Image.Resampling.BICUBIC)) / 255).permute(2, 0, 1)
    by_hand = (by_hand - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert (image.shape, image.dtype) == ((3, 12, 8), torch.float32)
    assert torch.allclose(image, by_hand.float(), atol=1e-6)
    assert torch.equal(image, load_image(path, size=(12, 8), mean=mean, std=std))
    assert load_image(path, size="native", mean=mean, std=std).shape == (3, 30, 20)


# The package


def in_bare_package(code: str) -> str:
    """What `code` prints in a fresh Python where only the package diagnostics.images itself is imported."""
    root = Path(images.__file__).parents[1]
    bare = (
        "import sys, types\n"
        f"bare = types.ModuleType('diagnostics'); bare.__path__ = [{str(root)!r}]\n"
        "sys.modules['diagnostics'] = bare\n"
    )
    done = subprocess.run([sys.executable, "-c", bare + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_loads_torch_and_pil_only_where_they_are_needed():
    heavy = "print(sorted({'torch', 'PIL', 'numpy'} & set(sys.modules)))"
    assert in_bare_package(f"from diagnostics.images import find_images, Size, parse_size, ImageError\n{heavy}") == "[]"
    assert "torch" not in in_bare_package(f"from diagnostics.images import open_image, resize, read_size\n{heavy}")
    assert "torch" in in_bare_package(f"from diagnostics.images import to_tensor\n{heavy}")


def test_every_name_of_the_package_is_there_and_no_module_hides_one():
    for name in images.__all__:
        assert not inspect.ismodule(getattr(images, name)), name
    assert set(images.__all__) <= set(dir(images))
    with pytest.raises(AttributeError, match=r"module `diagnostics\.images` has no attribute `resample`; dir"):
        images.resample  # noqa: B018
