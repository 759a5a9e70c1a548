"""Words, class files, sentences, truth tables and class embeddings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from bad_input.harness import Case, Result, refused, works
from bad_input.products import photo

SEGMENT = ["segment", "a.png", "--backbone", "tiny", "-M", "clip", "--size", "64", "--no-overlays", "--out", "s"]
CLASSIFY = ["classify", "a.png", "--backbone", "tiny", "-p", "zero", "-d", "norm-topk"]


def segment(*more: str) -> Callable[[], list[str]]:
    return lambda: [photo("a.png"), [*SEGMENT, *more]][1]  # type: ignore[return-value]


def class_file(content: bytes, *more: str, name: str = "names.txt") -> Callable[[], list[str]]:
    def prepare() -> list[str]:
        Path(name).write_bytes(content)
        photo("a.png")
        return [*SEGMENT, "--classes-file", name, *more]

    return prepare


def table(content: bytes, name: str = "truth.csv") -> Callable[[], list[str]]:
    def prepare() -> list[str]:
        Path(name).write_bytes(content)
        photo("a.png")
        return [*CLASSIFY, "-c", "cat, dog", "--truth", name]

    return prepare


def embeddings(content: bytes) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        from segment.text.class_head import row_map

        Path("map.json").write_bytes(content)
        return lambda: row_map("map.json")

    return prepare


def sentences(content: bytes) -> Callable[[], list[str]]:
    def prepare() -> list[str]:
        Path("sentences.txt").write_bytes(content)
        photo("a.png")
        return [*SEGMENT, "-c", "cat, dog", "--templates", "sentences.txt"]

    return prepare


def classes_are(*names: str) -> Callable[[Result], None]:
    """The label map's description has these classes."""

    def check(result: Result) -> None:
        import json

        content = json.loads((result.folder / "s/clip/a.json").read_text())
        text = json.dumps(content, ensure_ascii=False)
        for name in names:
            assert json.dumps(name, ensure_ascii=False)[1:-1] in text, f"`{name}` is not in {text[:300]}"

    return check


def accuracy(value: str) -> Callable[[Result], None]:
    def check(result: Result) -> None:
        assert value in result.out, result.out

    return check


BAD_CLASSES = {
    "none": "",
    "a blank": " ",
    "commas alone": ",,,",
    "a comma too many": "cat,,dog",
    "a comma at the end": "cat, dog,",
    "twice": "cat, dog, cat",
    "two lines": "cat\ndog",
}
BAD_FILES = {
    "of 0 bytes": b"",
    "of blanks": b"  \n \n",
    "with a blank line": b"cat\n\ndog\n",
    "in UTF-16": "cat\ndog\n".encode("utf-16"),
    "in Latin-1": "caf\xe9\ndog\n".encode("latin-1"),
    "that is an image": b"\x89PNG\r\n\x1a\n\x00\xff\xfe",
    "with a synonym twice": b"cat, cat\ndog\n",
    "with a word in two classes": b"cat\ndog\ncat\n",
    "with an empty synonym": b"cat, \ndog\n",
    "with NUL": b"c\x00at\ndog\n",
}
BAD_TABLES = {
    "of 0 bytes": b"",
    "of one column": b"a.png\n",
    "of three columns": b"a.png,cat,dog\n",
    "with two classes": b"a.png,cat\na.png,dog\n",
    "in UTF-16": "a.png,cat\n".encode("utf-16"),
    "of an unknown class": b"a.png,bird\n",
    "of other images": b"b.png,cat\n",
    "with an empty class": b"a.png,\n",
}
BAD_JSON = {
    "of 0 bytes": b"",
    "that is a list": b"[1]",
    "that is null": b"null",
    "cut short": b'{"a.png": "ca',
    "of numbers": b'{"a.png": 3}',
    "nested deeply": b'{"a.png":' * 50_000,
}


def cases() -> Iterator[Case]:
    for name, text in BAD_CLASSES.items():
        yield refused(f"classes: {name}", segment("-c", text), "`cat`" if name == "twice" else repr(text)[:-1])
    yield refused("classes: no option", segment(), "--classes")
    yield refused("classes: both options", segment("-c", "cat", "--classes-file", "x.txt"), "--classes")
    yield refused("classes: missing file", segment("--classes-file", "nowhere.txt"), "nowhere.txt")
    yield refused(
        "classes: the file is a folder", lambda: [os.mkdir("d.txt"), segment("--classes-file", "d.txt")()][1], "d.txt"
    )  # type: ignore[arg-type,return-value]
    yield refused(
        "classes: the file is a FIFO", lambda: [os.mkfifo("f.txt"), segment("--classes-file", "f.txt")()][1], "f.txt"
    )  # type: ignore[arg-type,return-value]
    for name, content in BAD_FILES.items():
        yield refused(f"class file {name}", class_file(content), "names.txt")
    yield refused(
        "class file: background beyond the classes", class_file(b"cat\ndog\n", "--background-class", "7"), "7"
    )
    yield refused("class file: an empty separator", class_file(b"cat\ndog\n", "--separator", ""), "separator")
    yield works("class file with a BOM", class_file(b"\xef\xbb\xbfcat\ndog\n"), classes_are("cat", "dog"))
    yield works("class file with CRLF", class_file(b"cat\r\ndog\r\n"), classes_are("cat", "dog"))
    yield works("class file without a last newline", class_file(b"cat\ndog"), classes_are("cat", "dog"))
    for word in (
        "[/]",
        "[red]cat",
        "[wooden] chair",
        "{}",
        "{{data}}",
        "%s",
        "<script>",
        "a/b",
        "../x",
        "é",
        "猫",
        "🐈",
        "-c",
        "'",
        '"',
        "\\",
    ):
        yield works(f"classes: `{word}`", segment("-c", f"{word}, dog"), classes_are(word, "dog"))
    yield works("classes: a word of 2000 letters", segment("-c", f"{'x' * 2000}, dog"), classes_are("dog"))
    yield works(
        "classes: 300 of them", segment("-c", ", ".join(f"thing{k}" for k in range(300))), classes_are("thing299")
    )
    for name, content in BAD_TABLES.items():
        yield refused(
            f"truth table {name}",
            table(content),
            "a.png" if name == "of an unknown class" else "truth.csv" if name != "of other images" else "b.png",
        )
    for name, content in BAD_JSON.items():
        yield refused(f"truth JSON {name}", table(content, "truth.json"), "truth.json")
        if name != "of numbers":
            yield refused(f"class embeddings {name}", embeddings(content), "map.json")
    yield refused(
        "truth: missing", lambda: [photo("a.png"), [*CLASSIFY, "-c", "cat, dog", "--truth", "no.csv"]][1], "no.csv"
    )  # type: ignore[return-value]
    yield works("truth with a BOM", table(b"\xef\xbb\xbfa.png,cat\n"), accuracy("accuracy"))
    yield works("truth with CRLF", table(b"image,class\r\na.png,cat\r\n"), accuracy("accuracy"))
    yield refused("sentences without {}", sentences(b"a photo\n"), "sentences.txt")
    yield refused("sentences of 0 bytes", sentences(b""), "sentences.txt")
    yield works("sentences with another field", sentences(b"a {x.__class__} of {}\n"), classes_are("cat", "dog"))
    yield refused("sentences in UTF-16", sentences("a {}".encode("utf-16")), "sentences.txt")
    yield refused("sentences: unknown", segment("-c", "cat, dog", "--templates", "nowhere"), "nowhere")
    yield refused("background: empty", segment("-c", "cat, dog", "--background", ",,"), ",,")
