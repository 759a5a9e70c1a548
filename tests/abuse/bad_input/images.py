"""Images: cut short, damaged, of another kind, special files, odd modes, too large."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bad_input.harness import Case, Result, refused, works
from bad_input.products import photo

FORMATS = ("png", "jpg", "bmp", "gif", "tif", "webp", "ppm")
PROBE = ("--backbone", "tiny", "--measures", "norms", "--layers", "12")
HUGE = 30_000  # pixels of a side: 900 million


def encoded(suffix: str) -> bytes:
    """The bytes of a seeded image in a format."""
    photo(f"whole.{suffix}")
    content = Path(f"whole.{suffix}").read_bytes()
    os.remove(f"whole.{suffix}")
    return content


def header(width: int, height: int) -> bytes:
    """A PNG's beginning, with a size that nothing behind it fulfills."""
    fields = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [fields, data, b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def opened(file: str) -> Callable[[], Any]:
    """Opens a file by the API."""

    def action() -> Any:
        from diagnostics.images import open_image

        return open_image(file)

    return action


def bad_files() -> Iterator[tuple[str, Callable[[], str], str]]:
    """Name, what writes the file and returns its path, and what the error names beside it."""

    def written(file: str, content: Callable[[], bytes]) -> Callable[[], str]:
        def write() -> str:
            Path(file).write_bytes(content())
            return file

        return write

    for suffix in FORMATS:
        for share in (0.02, 0.3, 0.9):
            if suffix == "gif" and share == 0.02:
                continue
            yield (
                f"{suffix} cut at {share:.0%}",
                written(f"cut.{suffix}", lambda s=suffix, k=share: encoded(s)[: int(len(encoded(s)) * k)]),  # type: ignore[misc]
                "",
            )
        yield f"{suffix} of 0 bytes", written(f"empty.{suffix}", lambda: b""), "0 bytes"
        yield f"{suffix} that is a text", written(f"text.{suffix}", lambda: b"hello, world\n" * 40), ""
        yield f"{suffix} of zeros", written(f"zeros.{suffix}", lambda: bytes(4000)), ""
        yield (
            f"{suffix} with other bytes in the middle",
            written(f"noise.{suffix}", lambda s=suffix: encoded(s)[:40] + os.urandom(400)),  # type: ignore[misc]
            "",
        )
    yield "bomb", written("bomb.png", lambda: header(HUGE, HUGE)), "900000000 pixels"
    yield "size of nothing", written("nothing.png", lambda: header(0, 10)), ""
    yield "size beyond all bounds", written("bounds.png", lambda: header(2**31 - 1, 2**31 - 1)), "pixels"
    yield "html", written("page.jpg", lambda: b"<html><body>404</body></html>"), ""
    yield "svg", written("drawing.png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"), ""
    yield "pdf", written("paper.jpg", lambda: b"%PDF-1.4\n" + bytes(500)), ""
    yield (
        "eps, which runs a program",
        written("figure.jpg", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "",
    )


def special(kind: str) -> Callable[[], str]:
    """A file named like an image that is none: FIFO, link to a device, loop, folder, nothing."""
    file = f"{kind}.jpg"

    def write() -> str:
        if kind == "fifo":
            os.mkfifo(file)
        elif kind in ("zero", "random", "null"):
            os.symlink({"zero": "/dev/zero", "random": "/dev/urandom", "null": "/dev/null"}[kind], file)
        elif kind == "loop":
            os.symlink(file, file)
        elif kind == "dangling":
            os.symlink("nowhere.jpg", file)
        elif kind == "folder":
            os.mkdir(file)
        elif kind == "socket":
            import socket

            socket.socket(socket.AF_UNIX).bind(file)
        return file

    return write


SPECIAL = ("fifo", "zero", "random", "null", "loop", "dangling", "socket", "missing")


def commands(folder: str) -> dict[str, list[str]]:
    """The commands that take images."""
    return {
        "probe": ["probe", folder, *PROBE, "--out", "run.zarr"],
        "encode": ["encode", folder, "--backbone", "tiny", "--out", "f.safetensors"],
        "segment": [
            "segment",
            folder,
            "--backbone",
            "tiny",
            "-M",
            "clip",
            "--size",
            "64",
            "-c",
            "cat, dog",
            "--no-overlays",
            "--out",
            "s",
        ],
        "classify": ["classify", folder, "--backbone", "tiny", "-c", "cat, dog", "-p", "zero", "-d", "norm-topk"],
    }


def beside(kind: str, command: str) -> Case:
    """A special file beside a good image: the image is done and the file is named, or left out with the walk."""

    def prepare() -> list[str]:
        photo("photos/good.png")
        os.chdir("photos")
        special(kind)()
        os.chdir("..")
        return commands("photos")[command]

    def check(result: Result) -> None:
        results = {"probe": "run.zarr", "encode": "f.safetensors", "segment": "s/clip/good.labels.png"}
        if command == "classify":
            assert "good" in result.out, result.out
        else:
            assert (result.folder / results[command]).exists(), f"no {results[command]}"

    return works(f"{command}: {kind} beside a good image", prepare, check)


def damaged_beside(command: str) -> Case:
    """A damaged image beside a good one is named, and the good one is done."""

    def prepare() -> list[str]:
        photo("photos/good.png")
        Path("photos/broken.png").write_bytes(encoded("png")[:300])
        return commands("photos")[command]

    def check(result: Result) -> None:
        assert "broken.png" in result.out + result.err, "the damaged image is not named"

    return works(f"{command}: a damaged image beside a good one", prepare, check)


def damaged_strict(command: str) -> Case:
    def prepare() -> list[str]:
        photo("photos/good.png")
        Path("photos/broken.png").write_bytes(encoded("png")[:300])
        return [*commands("photos")[command], "--strict"]

    return refused(f"{command} --strict: a damaged image", prepare, "broken.png")


def mode(name: str, make: Callable[[], Image.Image], expected: Callable[[np.ndarray], bool], suffix: str) -> Case:
    """An odd mode that is read, with the pixels it should have."""

    def prepare() -> Callable[[], Any]:
        make().save(f"odd.{suffix}")

        def action() -> None:
            from diagnostics.images import open_image

            np.save("pixels.npy", np.asarray(open_image(f"odd.{suffix}")))

        return action

    def check(result: Result) -> None:
        pixels = np.load(result.folder / "pixels.npy")
        assert pixels.ndim == 3, pixels.shape
        assert pixels.shape[2] == 3, pixels.shape
        assert expected(pixels), f"other pixels: {pixels[0, 0]}"

    return works(f"mode: {name}", prepare, check)


def flat(value: tuple[int, int, int], tolerance: int = 0) -> Callable[[np.ndarray], bool]:
    return lambda pixels: bool((abs(pixels.astype(int) - value) <= tolerance).all())


def modes() -> Iterator[Case]:
    size = (9, 7)

    def gray16() -> Image.Image:
        return Image.fromarray(np.full((7, 9), 32768, np.uint16))

    def floats(value: float) -> Callable[[], Image.Image]:
        return lambda: Image.fromarray(np.full((7, 9), value, np.float32))

    yield mode("1 bit", lambda: Image.new("1", size, 1), flat((255, 255, 255)), "png")
    yield mode("gray", lambda: Image.new("L", size, 77), flat((77, 77, 77)), "png")
    yield mode("gray and alpha", lambda: Image.new("LA", size, (77, 0)), flat((255, 255, 255)), "png")
    yield mode("palette", lambda: Image.new("RGB", size, (9, 200, 30)).quantize(4), flat((9, 200, 30), 8), "png")
    yield mode("transparent", lambda: Image.new("RGBA", size, (1, 2, 3, 0)), flat((255, 255, 255)), "png")
    yield mode("16-bit gray", gray16, flat((128, 128, 128)), "png")
    yield mode("16-bit gray TIFF", gray16, flat((128, 128, 128)), "tif")
    yield mode("floats in [0, 1]", floats(0.5), flat((128, 128, 128)), "tif")
    yield mode("CMYK TIFF", lambda: Image.new("CMYK", size, (0, 255, 255, 0)), flat((255, 0, 0)), "tif")
    yield mode("CMYK JPEG", lambda: Image.new("CMYK", (16, 16), (0, 255, 255, 0)), flat((255, 0, 0), 6), "jpg")
    yield mode("one pixel", lambda: Image.new("RGB", (1, 1), (5, 6, 7)), flat((5, 6, 7)), "png")
    yield mode("1 x 3000", lambda: Image.new("RGB", (1, 3000), (5, 6, 7)), flat((5, 6, 7)), "png")
    yield mode("a PNG named .jpg", lambda: _renamed("jpg"), flat((5, 6, 7)), "png")
    for value, name in ((7.5, "7.5"), (-1.0, "-1"), (float("nan"), "nan"), (float("inf"), "inf")):

        def prepare(value: float = value) -> Callable[[], Any]:
            floats(value)().save("odd.tif")
            return opened("odd.tif")

        yield refused(f"mode: floats of {name}", prepare, "odd.tif", "float values")
    for array, name in ((np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"), (np.zeros((4, 4, 5), np.uint8), "(4, 4, 5)")):
        yield refused(f"array of shape {name}", lambda array=array: _array(array), name)  # type: ignore[misc]
    yield refused("array of NaN", lambda: _array(np.full((4, 4, 3), np.nan)), "nan")
    yield refused("array of texts", lambda: _array(np.full((4, 4, 3), "x")), "uint8")
    yield refused("an image that is a number", lambda: _array(5), "int")
    yield refused("an image that is None", lambda: _array(None), "NoneType")


def _renamed(suffix: str) -> Image.Image:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7), (5, 6, 7)).save(buffer, "PNG")
    Path(f"other.{suffix}").write_bytes(buffer.getvalue())
    from diagnostics.images import open_image

    return open_image(f"other.{suffix}")


def _array(array: Any) -> Callable[[], Any]:
    def action() -> Any:
        from diagnostics.images import as_image

        return as_image(array)

    return action


def animated() -> Callable[[], Any]:
    frames = [Image.new("RGB", (9, 9), (value, 0, 0)) for value in (0, 90, 200)]
    frames[0].save("moving.gif", save_all=True, append_images=frames[1:])
    return opened("moving.gif")


def cases() -> Iterator[Case]:
    for name, write, reason in bad_files():
        file = name.split()[0]

        def prepare(write: Callable[[], str] = write) -> Callable[[], Any]:
            return opened(write())

        yield refused(
            f"image: {name}", prepare, f".{'' if file not in FORMATS else file}", *([reason] if reason else [])
        )
    for kind in SPECIAL:

        def prepare_special(kind: str = kind) -> Callable[[], Any]:
            return opened(special(kind)())

        yield refused(f"image: {kind}", prepare_special, f"{kind}.jpg")
    for command in ("probe", "encode", "segment", "classify"):
        for kind in ("fifo", "zero", "loop", "dangling", "folder"):
            yield beside(kind, command)
        yield damaged_beside(command)
        yield damaged_strict(command)
        yield refused(f"{command}: no such image", lambda c=command: commands("nowhere.png")[c], "nowhere.png")  # type: ignore[misc]
        yield refused(
            f"{command}: an empty folder", lambda c=command: [os.mkdir("empty"), commands("empty")[c]][1], "empty"
        )  # type: ignore[misc,return-value]
        yield refused(f"{command}: an empty name", lambda c=command: commands("")[c], "")  # type: ignore[misc]
    yield refused("image: animated", animated, "moving.gif", "3 frames")
    yield from modes()
