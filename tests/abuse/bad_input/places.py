"""Names of files, places of results, lists of data sets and label maps, and little room."""

from __future__ import annotations

import json
import os
import resource
import signal
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from bad_input.harness import Case, Result, refused, works
from bad_input.images import commands
from bad_input.products import dataset, photo

NAMES = {
    "no UTF-8": b"bad\xff.png",
    "brackets": b"[red]b[b].png",
    "newline": b"a\nb.png",
    "escape": b"a\x1b[31mb.png",
    "quotes": b"a'\"b.png",
    "blanks": b"  a  b .png",
    "dollar": b"$HOME;ls.png",
    "percent": b"%s%d.png",
    "braces": b"{{data}}.png",
    "a dash": b"-rf.png",
    "dots": b"a..b...png",
    "250 letters": b"x" * 246 + b".png",
    "emoji": "🐈.png".encode(),
    "NFD": unicodedata.normalize("NFD", "é.png").encode(),
    "right to left": "\u202egnp.a.png".encode(),
    "upper suffix": b"A.PNG",
}
OUTS = ("probe", "encode", "segment")
EVALUATE = [
    "evaluate",
    "--dataset",
    "folder",
    "--root",
    "data",
    "--backbone",
    "tiny",
    "-M",
    "clip",
    "--workers",
    "1",
    "--out",
    "run",
]
VOC = [
    "evaluate",
    "--dataset",
    "voc21",
    "--root",
    "voc",
    "--backbone",
    "tiny",
    "-M",
    "clip",
    "--workers",
    "1",
    "--out",
    "run",
]


def named(name: bytes, command: str) -> Case:
    """An image of an odd name is done like others."""

    def prepare() -> list[str]:
        photo("whole.png")
        os.mkdir("photos")
        os.rename(b"whole.png", b"photos/" + name)
        return commands("photos")[command]

    def check(result: Result) -> None:
        if command == "probe":
            from diagnostics.studies.store import open_run

            assert open_run(result.folder / "run.zarr").sizes["image"] == 1
        elif command == "encode":
            from safetensors.torch import load_file

            assert len(load_file(result.folder / "f.safetensors")) == 1
        elif command == "segment":
            assert len(list((result.folder / "s/clip").glob("*.labels.png"))) == 1
        else:
            assert "cat" in result.out, result.out
        assert "\x1b[31m" not in result.out + result.err, "an escape of a name reaches the terminal"

    return works(f"{command}: a name with {next(k for k, v in NAMES.items() if v == name)}", prepare, check)


def out_of(command: str, out: str) -> list[str]:
    """The command with another --out."""
    arguments = commands("photos")[command]
    return [*arguments[: arguments.index("--out") + 1], out]


def with_photos(command: str, out: str, change: Callable[[], object] = lambda: None) -> Callable[[], list[str]]:
    def prepare() -> list[str]:
        photo("photos/a.png")
        change()
        return out_of(command, out)

    return prepare


def home(command: str) -> Case:
    """`~` is the home folder, not a folder of that name."""

    def prepare() -> list[str]:
        photo("photos/a.png")
        os.mkdir("home")
        os.environ["HOME"] = str(Path("home").absolute())
        return out_of(command, "~/result" + {"probe": ".zarr", "encode": ".safetensors", "segment": ""}[command])

    def check(result: Result) -> None:
        assert not (result.folder / "~").exists(), "a folder called ~"
        assert any((result.folder / "home").glob("result*")), "nothing in the home folder"

    return works(f"{command}: --out in ~", prepare, check)


def inside() -> Case:
    """Results inside the folder of images are not segmented themselves."""

    def prepare() -> Callable[[], None]:
        photo("photos/a.png")

        def action() -> None:
            from bad_input.harness import command

            for _ in range(3):
                assert command(out_of("segment", "photos/s")) == 0

        return action

    def check(result: Result) -> None:
        assert [path.name for path in (result.folder / "photos/s/clip").glob("*.labels.png")] == ["a.labels.png"]

    return works("segment three times: --out inside the images", prepare, check)


def limited(command: str, size: int, *names: str) -> Case:
    """A limit on the size of files stands for a full disk."""

    def prepare() -> list[str]:
        for number in range(3):
            photo(f"photos/{number}.png", number)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return commands("photos")[command]

    return refused(f"{command}: files of at most {size} bytes", prepare, *names)


def voc(identifiers: bytes, change: Callable[[], object] = lambda: None) -> Callable[[], list[str]]:
    """VOC with one image and a list."""

    def prepare() -> list[str]:
        photo("voc/JPEGImages/a.jpg")
        for folder in ("SegmentationClass", "ImageSets/Segmentation"):
            Path("voc", folder).mkdir(parents=True)
        Image.fromarray(np.zeros((96, 96), np.uint8)).save("voc/SegmentationClass/a.png")
        Path("voc/ImageSets/Segmentation/val.txt").write_bytes(identifiers)
        change()
        return VOC

    return prepare


def maps(change: Callable[[], object]) -> Callable[[], list[str]]:
    """A data set of a folder, changed."""

    def prepare() -> list[str]:
        dataset("data", 2)
        change()
        return EVALUATE

    return prepare


def images_scored(count: int) -> Callable[[Result], None]:
    def check(result: Result) -> None:
        cell = json.loads((result.folder / "run/cells/clip.json").read_text())
        assert cell["images"]["scored"] == count, cell["images"]

    return check


def write(path: str, content: bytes) -> Callable[[], object]:
    return lambda: Path(path).write_bytes(content)


def label(array: np.ndarray, name: str = "p0.png") -> Callable[[], object]:
    return lambda: Image.fromarray(array).save(f"data/masks/{name}")


def narrow(columns: str) -> Callable[[], list[str]]:
    def prepare() -> list[str]:
        os.environ["COLUMNS"] = columns
        return commands("nowhere.png")["probe"]

    return prepare


def place_cases() -> Iterator[Case]:
    for name in NAMES.values():
        for command in ("probe", "encode", "segment", "classify"):
            yield named(name, command)
    for command in OUTS:
        for url in ("s3://bucket/x", "gs://b/x", "https://x.org/y", "file:///tmp/x"):
            yield refused(f"{command}: --out {url}", with_photos(command, url), url.partition("//")[2])
        yield home(command)
        yield refused(f"{command}: --out below a file", with_photos(command, "file/x", write("file", b"x")), "file")
        yield refused(f"{command}: --out is empty", with_photos(command, ""), "")
        yield refused(f"{command}: --out in /proc", with_photos(command, "/proc/x"), "/proc")
        yield refused(f"{command}: --out of 300 letters", with_photos(command, "x" * 300), "x" * 300)
        yield (
            refused(f"{command}: --out is a folder of files", with_photos(command, "photos"), "photos")
            if command != "segment"
            else inside()
        )
    yield refused("probe: --out is a file", with_photos("probe", "file", write("file", b"x")), "file")
    yield refused("segment: --out is a file", with_photos("segment", "file", write("file", b"x")), "file")
    yield refused("encode: --out is a file of others", with_photos("encode", "file", write("file", b"x")), "file")
    yield refused("encode: --out is a FIFO", with_photos("encode", "pipe", lambda: os.mkfifo("pipe")), "pipe")
    yield refused("segment: --out is a FIFO", with_photos("segment", "pipe", lambda: os.mkfifo("pipe")), "pipe")
    for columns in ("0", "-5", "1", "x", "99999999"):
        yield refused(f"COLUMNS={columns}", narrow(columns), "nowhere.png")
    yield limited("encode", 8192, "f.safetensors")
    yield limited("segment", 1000, "s")
    yield limited("probe", 1000, "run.zarr")


def dataset_cases() -> Iterator[Case]:
    for identifier in (
        "../a",
        "../../mine/victim",
        "x/../../a",
        "/etc/passwd",
        "~/a",
        "C:\\a",
        "..\\a",
        "b",
        "a.jpg",
        "a\x00b",
    ):
        yield refused(f"a list names {identifier!r}", voc(identifier.encode() + b"\n"), identifier.split("\x00")[0])
    yield refused("a list names one image twice", voc(b"a\na\n"), "`a` twice")
    yield refused("a list of 0 bytes", voc(b""), "val.txt")
    yield refused("a list in UTF-16", voc("a\n".encode("utf-16")), "val.txt")
    yield refused(
        "a list is a folder",
        voc(
            b"",
            lambda: [os.remove("voc/ImageSets/Segmentation/val.txt"), os.mkdir("voc/ImageSets/Segmentation/val.txt")],
        ),
        "val.txt",
    )
    yield refused(
        "a list is a FIFO",
        voc(
            b"",
            lambda: [os.remove("voc/ImageSets/Segmentation/val.txt"), os.mkfifo("voc/ImageSets/Segmentation/val.txt")],
        ),
        "val.txt",
    )
    for what, content in (("a BOM", b"\xef\xbb\xbfa\n"), ("CRLF", b"a\r\n"), ("blanks", b"  a  \n\n")):
        yield works(f"a list with {what}", voc(content), images_scored(1))
    yield refused("no such data set", lambda: ["evaluate", "--dataset", "nowhere", "--out", "r"], "nowhere")
    yield refused(
        "no such root",
        lambda: ["evaluate", "--dataset", "voc21", "--root", "nowhere", "-b", "tiny", "--out", "r"],
        "nowhere",
    )
    yield refused(
        "a data set without a root", lambda: ["evaluate", "--dataset", "voc21", "-b", "tiny", "--out", "r"], "root"
    )
    for text in (
        "shapes:scenes=0",
        "shapes:scenes=-1",
        "shapes:scenes=x",
        "shapes:height=0",
        "shapes:nowhere=1",
        "folder:root=data,first=2",
    ):
        yield refused(
            f"data set `{text}`",
            lambda text=text: [
                dataset("data"),
                ["evaluate", "--dataset", text, "-b", "tiny", "--workers", "1", "--out", "r"],
            ][1],
            text.partition(":")[2].partition("=")[0],
        )  # type: ignore[misc,return-value,func-returns-value]
    for what, change, name in (
        ("of another size", label(np.zeros((5, 5), np.uint8)), "p0"),
        ("of numbers beyond the classes", label(np.full((96, 96), 77, np.uint8)), "77"),
        ("of 16 bits beyond the classes", label(np.full((96, 96), 7777, np.uint16)), "7777"),
        ("of 0 bytes", write("data/masks/p0.png", b""), "p0.png"),
        ("that is a text", write("data/masks/p0.png", b"hello"), "p0.png"),
        ("that is a FIFO", lambda: [os.remove("data/masks/p0.png"), os.mkfifo("data/masks/p0.png")], "p0.png"),
        ("that is missing", lambda: os.remove("data/masks/p0.png"), "p0.png"),
        ("in colors", label(np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)), "p0.png"),
    ):
        yield Case(f"a label map {what}", maps(change), check=_names(name))
    yield refused("no label map", maps(lambda: [os.remove(path) for path in Path("data/masks").iterdir()]), "masks")
    yield refused("no images", maps(lambda: [os.remove(path) for path in Path("data/images").iterdir()]), "images")
    yield refused("no class file", maps(lambda: os.remove("data/classes.txt")), "classes.txt")
    yield refused("a class file of 0 bytes", maps(write("data/classes.txt", b"")), "classes.txt")


def _names(name: str) -> Callable[[Result], None]:
    """The image is left out by name, and the other one is scored."""

    def check(result: Result) -> None:
        assert name in result.out + result.err, f"{name} is not named: {result.out} {result.err}"
        images_scored(1)(result)

    return check


def cases() -> Iterator[Case]:
    yield from place_cases()
    yield from dataset_cases()
