"""What tells contents apart: hashes of whole files, of arrays, and of whatever a run is started with."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

# Bytes of a hash: two of a million files are alike by chance once in 10^26 runs. Our choice.
BYTES = 16
# Threads that read files, and bytes that each takes at once. Our choice.
READERS, PIECE = 8, 1 << 20
UNREADABLE = b"can't be opened"


def file_content(path: str | Path) -> bytes:
    """A hash of all bytes of a file; `UNREADABLE` for what is no plain file, or can't be opened.

    Nothing less will do: formats without compression keep their length and their ends when pixels change.
    """
    path = Path(path)
    hashed = hashlib.blake2b(digest_size=BYTES)
    try:
        if not path.is_file():  # pipes and devices may have no end; the run names them among those left out
            return UNREADABLE
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                hashed.update(piece)
    except OSError:
        return UNREADABLE
    return hashed.digest()


def file_contents(paths: Iterable[str | Path]) -> list[bytes]:
    """`file_content` of many files, in their order, read by several threads."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(file_content, paths))


def array_content(array: np.ndarray) -> bytes:
    """A hash of an array's values, with its type and shape."""
    array = np.asarray(array)
    hashed = hashlib.blake2b(f"{array.dtype.str} {array.shape} ".encode(), digest_size=BYTES)
    hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.digest()


def joined(contents: Iterable[bytes]) -> str:
    """One short text for hashes in their order."""
    hashed = hashlib.blake2b(digest_size=BYTES)
    for content in contents:
        hashed.update(len(content).to_bytes(4, "big") + content)
    return hashed.hexdigest()[:16]
