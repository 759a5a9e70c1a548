"""One process at a time on what a run writes."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no locks of whole files that end with their process
    fcntl = None  # type: ignore[assignment]


class InUse(OSError):
    """Another process writes there."""

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def held(place: Path) -> Iterator[None]:
    """Keeps other processes from writing to `place` as long as the block runs; raises InUse where one does already.

    The lock lies beside it, in `.NAME.lock`, and is the system's: it ends with its process, however that ends. The file
    is taken away at the end. Where the folder can't be written to, or the system has no such locks, nothing is held.
    """
    path = place.with_name(f".{place.name}.lock")
    file = _locked(path, place) if fcntl is not None else None
    if file is None:
        yield
        return
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # still locked: who waits for this very file finds out that it is gone


def _locked(path: Path, place: Path) -> IO[str] | None:
    """The locked file, or None where there can be none."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError:  # such as a folder that is read-only; the run itself says so where it has to write
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise InUse(
                f"`{place}` is being written by {holder}. Wait for its end and run this again, or choose another --out."
            ) from error
        except OSError:  # a file system without locks
            file.close()
            return None
        if _same(file, path):
            return file
        file.close()  # the one that held it took it away in between


def _same(file: IO[str], path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(file.fileno())
    return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)
