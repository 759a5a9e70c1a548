"""Where a run's files lie: a folder, or any place that fsspec knows (s3://bucket/run, memory://run)."""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from diagnostics.below import LeadsOut, below, leads_out
from diagnostics.studies.store import named_disk_errors


class Storage(ABC):
    """Small files by name; a name may have folders in it, `shards/00001.npz`.

    A file appears whole or not at all, even if the process is killed. A name that leads out of the place, as `..` and
    links may, is refused with LeadsOut. `place` is the text that `storage_at` takes.
    """

    place: str

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content. FileNotFoundError where there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Puts the file in place, over one of the same name. A full disk raises DiskFull."""

    @abstractmethod
    def list(self, folder: str) -> list[str]:
        """Names of the files right in a folder, sorted, without it; none where it does not exist."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        folder, _, last = name.rpartition("/")
        return last in self.list(folder)


class Folder(Storage):
    """Files below a folder of this machine, or of a disk that several machines share.

    A file is written beside its place, brought to the disk and renamed.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self.place = str(self.root.absolute())
        there = next((place for place in (self.root, *self.root.absolute().parents) if place.exists()), None)
        if there is not None and not there.is_dir():
            raise ValueError(f"`{there}` is a file; give --out the name of a folder, which may be new.")

    def read(self, name: str) -> bytes:
        return below(self.root, name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        path = below(self.root, name)
        part = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
        try:
            with named_disk_errors(str(path)):
                path.parent.mkdir(parents=True, exist_ok=True)
                with part.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def list(self, folder: str) -> list[str]:
        base = self.root / folder
        if not base.is_dir():
            return []
        return sorted(entry.name for entry in base.iterdir() if entry.is_file() and entry.name[0] != ".")


class Remote(Storage):
    """Files of an object store, by fsspec. A put of a store is whole by itself.

    File systems that are no stores (ssh, ftp) may leave half a file behind if they are cut off; readers of shards
    notice and do them again.
    """

    def __init__(self, place: str) -> None:
        import fsspec

        self.place = place.rstrip("/")
        system_and_path: Any = fsspec.core.url_to_fs(self.place)
        self.system, self.base = system_and_path

    def read(self, name: str) -> bytes:
        return bytes(self.system.cat_file(self._path(name)))

    def write(self, name: str, content: bytes) -> None:
        path = self._path(name)
        with named_disk_errors(f"{self.place}/{name}"):
            self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.system.pipe_file(path, content)

    def list(self, folder: str) -> list[str]:
        self.system.invalidate_cache()
        try:
            entries = self.system.ls(self._path(folder) if folder else self.base, detail=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file")

    def _path(self, name: str) -> str:
        if reason := leads_out(name):
            raise LeadsOut(f"the name `{name}` {reason}, so it would lead out of `{self.place}`; give it another name.")
        return f"{self.base.rstrip('/')}/{name}"


def storage_at(place: str | Path) -> Storage:
    """The storage at a folder (a path, or file://…) or at a URL that fsspec knows.

    ValueError for a kind of URL that needs a package that is not installed.
    """
    text = str(place)
    if text.startswith("file://"):
        return Folder(text.removeprefix("file://"))
    if "://" not in text:
        return Folder(place)
    try:
        return Remote(text)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"`{text}` can't be opened: {error}. Install what it names, or give a folder that all machines share."
        ) from error
