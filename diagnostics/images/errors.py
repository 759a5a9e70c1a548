"""Why a file can't be used, as an error that names it."""

from __future__ import annotations

from pathlib import Path

from diagnostics.printable import printable


class FileError(ValueError):
    """A file that can't be used: `path` names it, `reason` says what is wrong, `advice` what to do."""

    def __init__(self, path: str | Path, reason: str, advice: str) -> None:
        super().__init__(path, reason, advice)  # all three as arguments: the error then survives pickling
        self.path, self.reason, self.advice = Path(path), reason, advice

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.reason}. {self.advice}.")


class ImageError(FileError):
    """An image that can't be read rightly."""
