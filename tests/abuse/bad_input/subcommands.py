"""Bad input of the subcommands beside probe, encode, segment and evaluate."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from bad_input.harness import Case, Result, refused, works
from bad_input.images import bad_files, special
from bad_input.products import dataset, photo

# Each on one image of the case's folder, in seconds.
COMMANDS = {
    "view": ["view", "{}", "--backbone", "tiny:depth=2", "--size", "128", "--out", "page.html"],
    "compare": [
        "compare",
        "{}",
        "--backbone",
        "tiny:depth=2",
        "--size",
        "128",
        "--detectors",
        "relative-norm",
        "--no-stability",
        "--no-plots",
        "--out",
        "c",
    ],
    "classify": ["classify", "{}", "--backbone", "tiny", "-c", "cat, dog", "--detector", "norm-topk", "-p", "zero"],
    "figure": ["figure", "clearclip/fig-2", "{}", "--backbone", "tiny", "--out", "drawn"],
}
PRINTED = {"view": "page.html", "compare": "c/", "classify": "cat", "figure": "drawn"}


def on(command: str, images: str, *more: str) -> list[str]:
    """The command on images, with more options."""
    return [word.replace("{}", images) for word in COMMANDS[command]] + list(more)


def on_photo(command: str, *more: str, change: Callable[[], object] = lambda: None) -> Callable[[], list[str]]:
    """The command on a whole image, after a change of the folder."""

    def prepare() -> list[str]:
        photo("photos/a.png", size=(128, 128))
        change()
        return on(command, "photos", *more)

    return prepare


def write(path: str, content: bytes) -> Callable[[], object]:
    def action() -> object:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return Path(path).write_bytes(content)

    return action


def tells(*names: str) -> Callable[[Result], None]:
    """What the command prints names all of these."""

    def check(result: Result) -> None:
        for name in names:
            assert name in result.out + result.err, f"{name} is not named: {result.out} {result.err}"

    return check


def image_cases() -> Iterator[Case]:
    """Damaged and special files: alone refused, beside a whole one left out by name."""
    kinds = [entry for number, entry in enumerate(bad_files()) if number % 9 == 4]
    for command in COMMANDS:
        yield refused(f"{command}: not there", lambda command=command: on(command, "nowhere.png"), "nowhere.png")  # type: ignore[misc]
        for name, write_file, names in kinds:
            file = Path(write_file.__closure__[1].cell_contents).name if write_file.__closure__ else ""  # type: ignore[union-attr]
            yield refused(
                f"{command}: {name}",
                lambda command=command, write_file=write_file: on(command, write_file()),  # type: ignore[misc]
                *([names] if names else []),
                file or ".",
            )
        for kind in ("fifo", "zero", "loop"):

            def beside(command: str = command, kind: str = kind) -> list[str]:
                photo("photos/a.png", size=(128, 128))
                os.chdir("photos")
                special(kind)()
                os.chdir("..")
                return on(command, "photos")

            yield works(f"{command}: a {kind} beside an image", beside, tells(f"{kind}.jpg", PRINTED[command]))

        def markup(command: str = command) -> list[str]:
            photo("photos/[red]b[/].png", size=(128, 128))
            return on(command, "photos")

        yield works(f"{command}: brackets in a name", markup, tells(PRINTED[command]))


def option_cases() -> Iterator[Case]:
    for command in COMMANDS:
        yield refused(f"{command}: no such backbone", on_photo(command, "--backbone", "nowhere"), "nowhere")
        yield refused(f"{command}: a timm name without timm:", on_photo(command, "-b", "vit_tiny_patch16_224"), "timm:")
        yield refused(f"{command}: a device that is none", on_photo(command, "--device", "tpu"), "tpu")
        yield refused(f"{command}: positions that are none", on_photo(command, "--positions", "nowhere"), "nowhere")
    for command in ("view", "compare", "classify"):
        yield refused(f"{command}: layer 99", on_photo(command, "--layers", "99"), "99")
        yield refused(f"{command}: layers that are words", on_photo(command, "--layers", "last"), "last")
        yield refused(f"{command}: a size of words", on_photo(command, "--size", "large"), "large")
        yield refused(f"{command}: a size of nothing", on_photo(command, "--size", "0"), "0")
    for command, option in (("view", "--detectors"), ("compare", "--detectors"), ("classify", "--detector")):
        yield refused(f"{command}: no such detector", on_photo(command, option, "nowhere"), "nowhere")
        yield refused(f"{command}: a detector of nan", on_photo(command, option, "relative-norm:threshold=nan"), "nan")
        yield refused(f"{command}: a detector cut short", on_photo(command, option, "adaptive:detector=lof("), "lof(")
    for command in ("view", "classify"):
        yield refused(f"{command}: no such purifier", on_photo(command, "--purifier", "nowhere"), "nowhere")
    yield refused("compare: no thresholds", on_photo("compare", "--thresholds", "0"), "thresholds", usage=True)
    yield refused("compare: planted words", on_photo("compare", "--plant", "k=x"), "x")
    yield refused("compare: more planted than patches", on_photo("compare", "--plant", "k=9999"), "9999")
    yield refused("compare: labels that are no folder", on_photo("compare", "--labels", "nowhere"), "nowhere")
    yield refused("compare: --out is a file", on_photo("compare", "--out", "f", change=write("f", b"x")), "f")
    yield refused("compare: --out s3", on_photo("compare", "--out", "s3://b/x"), "s3:")
    yield refused("view: --out exists", on_photo("view", change=write("page.html", b"x")), "page.html", "--overwrite")
    yield refused("view: --out is a folder", on_photo("view", "--out", "photos", "--overwrite"), "photos")
    yield refused("view: --out below a file", on_photo("view", "--out", "f/p.html", change=write("f", b"x")), "f")
    yield refused("view: --out s3", on_photo("view", "--out", "s3://b/p.html"), "s3:")
    yield refused("view: a method without words", on_photo("view", "--method", "clip"), "--classes")
    yield refused("view: no such method", on_photo("view", "-c", "cat, dog", "--method", "nowhere"), "nowhere")
    yield refused("view: windows that are none", on_photo("view", "-c", "cat, dog", "--windows", "nowhere"), "nowhere")
    yield refused("view: purified by a stranger", on_photo("view", "--purified-by", "nowhere"), "nowhere")
    yield refused("figure: no such figure", lambda: ["figure", "clearclip/fig-99", "a.png"], "fig-99")
    yield refused("figure: no images", lambda: ["figure", "clearclip/fig-2"], "--scenes")
    yield refused("figure: --out is a file", on_photo("figure", "--out", "f", change=write("f", b"x")), "f")
    yield refused("figure: --out s3", on_photo("figure", "--out", "s3://b/x"), "s3:")
    yield refused(
        "figure: a second one without a place",
        lambda: [photo("a.png"), ["figure", "sfp/supp-fig-2", "a.png", "-b", "tiny", "--second", "tiny"]][1],  # type: ignore[return-value]
        "--second",
    )
    yield refused("figure: labels that are no folder", on_photo("figure", "--labels", "nowhere"), "nowhere")
    yield refused(
        "figure: what needs words", lambda: [photo("a.png"), ["figure", "clearclip/fig-6", "a.png"]][1], "--classes"
    )  # type: ignore[return-value]


def word_cases() -> Iterator[Case]:
    yield refused("classify: no words", lambda: [photo("a.png"), ["classify", "a.png"]][1], "--classes")  # type: ignore[return-value]
    yield refused("classify: a word twice", on_photo("classify", "-c", "cat, Cat "), "Cat")
    for name, content, names in (
        ("of 0 bytes", b"", "t.csv"),
        ("of zeros", bytes(50), "t.csv"),
        ("with a stranger", b"b.png,cat\n", "b.png"),
        ("with a word that is none of the classes", b"a.png,horse\n", "horse"),
        ("of one column", b"a.png\n", "t.csv"),
        ("in JSON of another kind", b"[1, 2]", "a.png"),
        ("in UTF-16", "a.png,cat\n".encode("utf-16"), "t.csv"),
    ):
        yield refused(
            f"classify: a truth table {name}",
            on_photo("classify", "--truth", "t.csv", change=write("t.csv", content)),
            names,
        )
    for name, content in (
        ("with a BOM", "\ufeffa.png,cat\n".encode()),
        ("with a header", b"image,class\na.png,cat\n"),
        ("with Windows paths", b"photos\\a.png,cat\r\n"),
    ):
        yield works(
            f"classify: a truth table {name}",
            on_photo("classify", "--truth", "t.csv", change=write("t.csv", content)),
            tells("accuracy"),
        )
    yield refused("classify: --out is a folder", on_photo("classify", "--out", "photos"), "photos")
    yield refused(
        "classify: --out below a file", on_photo("classify", "--out", "f/a.csv", change=write("f", b"x")), "f"
    )
    yield refused("classify: --out s3", on_photo("classify", "--out", "s3://b/a.csv"), "s3:")
    yield refused("classify: templates that are none", on_photo("classify", "--templates", "nowhere"), "nowhere")


def data_set(change: Callable[[], object] = lambda: None, *arguments: str) -> Callable[[], list[str]]:
    """`datasets check` of a changed set."""

    def prepare() -> list[str]:
        dataset("data", 2)
        change()
        return ["datasets", "check", *(arguments or ("folder", "--root", "data"))]

    return prepare


def problem(name: str, prepare: Callable[[], list[str]], *names: str) -> Case:
    """A set of which the check says what is wrong, and ends with 1."""

    def call() -> Callable[[], None]:
        words = prepare()

        def action() -> None:
            from bad_input.harness import command

            assert command(words) == 1, "the check ends with 0"

        return action

    return works(name, call, tells("problem", *names))


def set_cases() -> Iterator[Case]:
    yield works("datasets check: a whole set", data_set(), tells("nothing is wrong"))
    yield refused("datasets check: no such set", data_set(lambda: None, "nowhere", "--root", "data"), "nowhere")
    yield problem("datasets check: no such root", data_set(lambda: None, "folder", "--root", "nowhere"), "nowhere")
    yield problem("datasets check: the root is a file", data_set(write("f", b"x"), "voc21", "--root", "f"), "f")
    mask = Path("data/masks/p0.png")
    for name, change, names in (
        ("a label map of another size", lambda: Image.fromarray(np.zeros((5, 5), np.uint8)).save(mask), "p0"),
        ("a label map of 0 bytes", lambda: mask.write_bytes(b""), "p0.png"),
        ("a label map that is a text", lambda: mask.write_bytes(b"hello"), "p0.png"),
        ("a label map that is lost", mask.unlink, "p0"),
        ("a label map that is a FIFO", lambda: [mask.unlink(), os.mkfifo(mask)], "p0.png"),
        ("a label of no class", lambda: Image.fromarray(np.full((96, 96), 77, np.uint8)).save(mask), "77"),
        ("an image cut short", lambda: Path("data/images/p0.png").write_bytes(b"\x89PNG\r\n"), "p0.png"),
    ):
        yield problem(f"datasets check: {name}", data_set(change), names)
    yield refused("datasets check: no class file", data_set(lambda: os.remove("data/classes.txt")), "classes.txt")
    yield problem("datasets check: no images", data_set(lambda: shutil.rmtree("data/images")), "images")
    yield problem("datasets check: no masks", data_set(lambda: shutil.rmtree("data/masks")), "masks")


def stuff(change: Callable[[], object] = lambda: None, *arguments: str) -> Callable[[], list[str]]:
    """`prepare coco-object` of a small tree, changed."""

    def prepare() -> list[str]:
        photo("coco/images/val2017/000000000001.jpg")
        labels = Path("coco/annotations/val2017")
        labels.mkdir(parents=True)
        for ending in (".png", "_labelTrainIds.png"):
            Image.fromarray(np.zeros((96, 96), np.uint8)).save(labels / f"000000000001{ending}")
        change()
        return ["prepare", *(arguments or ("coco-object", "--root", "coco", "--out", "made"))]

    return prepare


def prepare_cases() -> Iterator[Case]:
    yield refused("prepare: no such set", stuff(lambda: None, "nowhere", "--root", "coco", "--out", "m"), "nowhere")
    yield refused("prepare: a set that needs none", stuff(lambda: None, "voc21", "--root", "coco", "--out", "m"), "VOC")
    yield refused(
        "prepare: no such root", stuff(lambda: None, "coco-object", "--root", "nowhere", "--out", "m"), "nowhere"
    )
    yield refused("prepare: --out is a file", stuff(write("made", b"x")), "made")
    yield refused("prepare: --out s3", stuff(lambda: None, "coco-object", "--root", "coco", "--out", "s3://b/x"), "s3:")


def other_cases() -> Iterator[Case]:
    yield refused("reproduce: no such table", lambda: ["reproduce", "nowhere/table-1", "--out", "r"], "nowhere")
    yield refused(
        "reproduce: no such row", lambda: ["reproduce", "clearclip/table-1", "--rows", "x", "--out", "r"], "x"
    )
    yield refused("reproduce: no --out", lambda: ["reproduce", "clearclip/table-1", "--offline"], "--out")
    yield refused(
        "reproduce: no such data set",
        lambda: ["reproduce", "clearclip/table-1", "--data-sets", "nowhere", "--out", "r"],
        "nowhere",
    )
    yield refused(
        "reproduce: a setting that is none",
        lambda: ["reproduce", "clearclip/table-1", "--set", "nowhere=1", "--offline", "--limit", "1", "--out", "r"],
        "nowhere",
    )
    yield refused(
        "reproduce: a setting without a value",
        lambda: ["reproduce", "clearclip/table-1", "--set", "windows", "--offline", "--limit", "1", "--out", "r"],
        "windows",
    )
    yield refused(
        "reproduce: two roots",
        lambda: ["reproduce", "clearclip/table-1", "--root", "a", "--root", "b", "--out", "r"],
        "--root",
    )
    yield refused(
        "reproduce: --out is a file",
        lambda: [
            write("f", b"x")(),
            ["reproduce", "clearclip/table-1", "--offline", "--limit", "1", "--workers", "1", "--out", "f"],
        ][1],  # type: ignore[return-value]
        "f",
    )
    yield refused(
        "demo: --out is a file", lambda: [write("f", b"x")(), ["demo", "--scenes", "1", "--out", "f"]][1], "f"
    )  # type: ignore[return-value]
    yield refused("demo: --out s3", lambda: ["demo", "--scenes", "1", "--out", "s3://b/x"], "s3:")
    yield refused("demo: no scenes", lambda: ["demo", "--scenes", "0"], "scenes", usage=True)


def cases() -> Iterator[Case]:
    yield from image_cases()
    yield from option_cases()
    yield from word_cases()
    yield from set_cases()
    yield from prepare_cases()
    yield from other_cases()
