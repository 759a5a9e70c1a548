"""Files of the package's own that were lost, damaged or tampered with."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bad_input.harness import Case, Result, refused, works
from bad_input.products import ENCODE, EVALUATE, PLACE, PROBE, SEGMENT, take

OTHER_FORMS = {
    "0 bytes": b"",
    "null": b"null",
    "a list": b"[1, 2]",
    "a number": b"7",
    "a text": b'"x"',
    "an empty object": b"{}",
    "an open bracket": b"{",
    "no UTF-8": b"\xff\xfe\x00",
    "deep nesting": b"[" * 100_000,
}


def flip(path: str, place: float = 0.5) -> None:
    """Flips one bit, at a share of the file's length."""
    content = bytearray(Path(path).read_bytes())
    content[int(len(content) * place)] ^= 4
    Path(path).write_bytes(content)


def cut(path: str, share: float = 0.5) -> None:
    """Keeps the first part of a file."""
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * share)])


def opens(path: str) -> Callable[[], Any]:
    """Opens a store and reads all of it."""

    def action() -> Any:
        from diagnostics.studies.store import open_run

        return open_run(path).load()

    return action


def damaged_store(change: Callable[[], Any]) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        take("run.zarr")
        change()
        return opens("run.zarr")

    return prepare


def same_arrays(result: Result) -> None:
    """The store is what an undamaged run has."""
    from diagnostics.studies.store import open_run

    whole, afterward = (open_run(place / "run.zarr").load() for place in (Path(os.environ[PLACE]), result.folder))
    assert afterward.equals(whole), "other numbers than in the undamaged run"


def again(arguments: Sequence[str], taken: Sequence[str], change: Callable[[], Any]) -> Callable[[], list[str]]:
    """The same command once more after a change of what it wrote."""

    def prepare() -> list[str]:
        take(*taken)
        change()
        return list(arguments)

    return prepare


def same_cell(result: Result) -> None:
    """The cell of an evaluation has the counts of the undamaged run."""
    cells = [
        json.loads((place / "run/cells/clip.json").read_text()) for place in (Path(os.environ[PLACE]), result.folder)
    ]
    for key in ("miou", "macc", "pacc", "classes", "images"):
        assert cells[0][key] == cells[1][key], f"{key}: {cells[1][key]}, not {cells[0][key]}"


def same_maps(result: Result) -> None:
    """Every label map is that of the undamaged run, bit for bit."""
    for path in (Path(os.environ[PLACE]) / "labels/clip").iterdir():
        copy = result.folder / "labels/clip" / path.name
        assert copy.exists(), f"{path.name} is not made again"
        assert copy.read_bytes() == path.read_bytes() or path.suffix == ".json", f"{path.name} differs"


def tampered_cell(**changes: Any) -> Callable[[], list[str]]:
    def prepare() -> list[str]:
        take("run")
        path = Path("run/cells/clip.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        return ["table", "run"]

    return prepare


def other_words() -> None:
    """Changes one number of a run's features of the words."""
    with np.load("run/words.npz") as archive:
        arrays = dict(archive)
    name = max(arrays, key=lambda key: arrays[key].size if arrays[key].dtype.kind == "f" else 0)
    arrays[name] = arrays[name][..., ::-1].copy()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    Path("run/words.npz").write_bytes(buffer.getvalue())
    os.remove("run/shards/000000.npz")


def zarr_cases() -> Iterator[Case]:
    for chunk in ("norm/c/0/0/0/0", "norm/c/1/0/0/0", "entropy", "norm_ratio"):
        chunk_path = f"run.zarr/{chunk}"

        def lose(chunk_path: str = chunk_path) -> None:
            files = [
                path
                for path in Path(chunk_path.split("/c/")[0]).rglob("*")
                if path.is_file() and "/c" in str(path.parent)
            ]
            files.sort()
            os.remove(files[-1 if "/1/" in chunk_path else 0])

        yield refused(f"store: a chunk of {chunk} is lost", damaged_store(lose), "run.zarr", "lost")
    for variable in ("norm", "entropy", "status", "image", "norm_outliers"):
        for what, change in (("flipped", flip), ("cut short", cut), ("emptied", lambda path: cut(path, 0))):

            def damage(variable: str = variable, change: Callable[[str], None] = change) -> None:
                chunks = sorted(path for path in Path(f"run.zarr/{variable}/c").rglob("*") if path.is_file())
                change(str(chunks[0]))

            yield refused(
                f"store: a chunk of {variable} is {what}",
                damaged_store(damage),
                "run.zarr",
            )

        def remove(variable: str = variable) -> None:
            shutil.rmtree(f"run.zarr/{variable}")

        yield refused(f"store: {variable} is lost", damaged_store(remove), "run.zarr")
    for name, content in OTHER_FORMS.items():
        write = lambda content=content: Path("run.zarr/zarr.json").write_bytes(content)  # noqa: E731
        yield refused(f"store: its metadata are {name}", damaged_store(write), "run.zarr")
        write = lambda content=content: _settings(content)  # noqa: E731
        if name not in ("no UTF-8", "0 bytes"):
            yield refused(
                f"store: probe again, its settings are {name}", again(PROBE, ["photos", "run.zarr"], write), "run.zarr"
            )

    def lost_chunk() -> None:
        os.remove(sorted(path for path in Path("run.zarr/norm/c").rglob("*") if path.is_file())[0])

    yield works(
        "store: probe again measures a lost chunk again", again(PROBE, ["photos", "run.zarr"], lost_chunk), same_arrays
    )
    yield works("store: probe again after nothing", again(PROBE, ["photos", "run.zarr"], lambda: None), same_arrays)
    yield refused("store: a folder without a store", lambda: [os.mkdir("x.zarr"), opens("x.zarr")][1], "x.zarr")  # type: ignore[arg-type,return-value]
    yield refused("store: missing", lambda: opens("x.zarr"), "x.zarr")
    yield refused("store: a file", lambda: [Path("x.zarr").write_text("x"), opens("x.zarr")][1], "x.zarr")  # type: ignore[return-value]
    yield refused("store: a URL", lambda: opens("s3://bucket/x.zarr"), "s3:")
    yield refused("store: a run of evaluate", lambda: [take("run"), opens("run")][1], "run")  # type: ignore[return-value,func-returns-value]


def _settings(content: bytes) -> None:
    path = Path("run.zarr/zarr.json")
    metadata = json.loads(path.read_text())
    metadata["attributes"]["settings"] = content.decode()
    path.write_text(json.dumps(metadata))


def run_cases() -> Iterator[Case]:
    for name, content in OTHER_FORMS.items():
        for file, arguments, taken in (
            ("run/run.json", EVALUATE, ["data", "run"]),
            ("labels/settings.json", SEGMENT, ["photos", "labels"]),
            ("run/cells/clip.json", ["table", "run"], ["run"]),
        ):
            write = lambda file=file, content=content: Path(file).write_bytes(content)  # noqa: E731
            yield refused(
                f"{file} is {name}",
                again(arguments, taken, write),
                Path(file).name
                if name != "an empty object"
                else "other settings"
                if file[-9:] != "clip.json"
                else "clip.json",
            )
        write = lambda content=content: Path("labels/clip/1.json").write_bytes(content)  # noqa: E731
        case = f"segment again: a description is {name}"
        if name == "an empty object":
            yield refused(case, again(SEGMENT, ["photos", "labels"], write), "labels/clip/1.json")
        else:
            yield works(case, again(SEGMENT, ["photos", "labels"], write), same_maps)
    for place in (0.01, 0.2, 0.5, 0.8, 0.99):
        write = lambda place=place: flip("run/shards/000001.npz", place)  # noqa: E731
        yield works(f"a shard is flipped at {place:.0%}", again(EVALUATE, ["data", "run"], write), same_cell)
        write = lambda place=place: cut("run/shards/000001.npz", place)  # noqa: E731
        yield works(f"a shard is cut at {place:.0%}", again(EVALUATE, ["data", "run"], write), same_cell)
    for name, change in (
        ("emptied", lambda: cut("run/shards/000000.npz", 0)),
        ("lost", lambda: os.remove("run/shards/000000.npz")),
        ("another one", lambda: shutil.copy("run/shards/000001.npz", "run/shards/000000.npz")),
    ):
        yield works(f"a shard is {name}", again(EVALUATE, ["data", "run"], change), same_cell)
    for name, change in (("cut short", cut), ("flipped", flip), ("emptied", lambda path: cut(path, 0))):

        def damage(change: Callable[[str], None] = change) -> None:
            change("run/words.npz")
            os.remove("run/shards/000000.npz")

        yield works(f"words.npz is {name}", again(EVALUATE, ["data", "run"], damage), same_cell)
    yield works("words.npz holds other features", again(EVALUATE, ["data", "run"], other_words), same_cell)
    for name, change in (
        ("deleted", lambda: os.remove("labels/clip/1.labels.png")),
        ("emptied", lambda: cut("labels/clip/1.labels.png", 0)),
        ("cut short", lambda: cut("labels/clip/1.labels.png")),
    ):
        yield works(f"a label map is {name}", again(SEGMENT, ["photos", "labels"], change), same_maps)
    for name, change in (
        ("emptied", lambda: cut("features.safetensors", 0)),
        ("cut short", lambda: cut("features.safetensors")),
        ("a text", lambda: Path("features.safetensors").write_text("hello")),
    ):
        yield refused(
            f"encode again: its file is {name}",
            again(ENCODE, ["photos", "features.safetensors"], change),
            "features.safetensors",
        )
    yield refused(
        "encode again after nothing",
        again(ENCODE, ["photos", "features.safetensors"], lambda: None),
        "features.safetensors",
    )


def cell_cases() -> Iterator[Case]:
    for value in (5, -0.1, 1e300, "x", [], {}):
        yield refused(f"a cell's miou is {value!r}", tampered_cell(miou=value), "clip.json")
    yield refused("a cell's miou is NaN", tampered_cell(miou=float("nan")), "clip.json")
    for key in ("classes", "departures", "never_predicted", "images", "method", "settings"):
        yield refused(f"a cell's {key} is 7", tampered_cell(**{key: 7}), "clip.json")
        yield refused(f"a cell's {key} is null", tampered_cell(**{key: None}), "clip.json")
    yield refused("a cell has an unknown field", tampered_cell(surprise=1), "surprise")
    yield refused("table of a missing folder", lambda: ["table", "nowhere"], "nowhere")
    yield refused("table of an empty folder", lambda: [os.mkdir("none"), ["table", "none"]][1], "none")  # type: ignore[return-value]

    def latex() -> list[str]:
        tampered_cell(backbone="x\n\\input{secret}")()
        return ["table", "run", "--form", "latex"]

    def check(result: Result) -> None:
        assert not any(line.startswith("\\input{secret}") for line in result.out.splitlines()), result.out

    yield works("a cell's backbone holds a line of LaTeX", latex, check)


def cases() -> Iterator[Case]:
    yield from zarr_cases()
    yield from run_cases()
    yield from cell_cases()
