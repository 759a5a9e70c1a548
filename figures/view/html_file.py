"""Writes a page as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from diagnostics.local_path import local_path
from diagnostics.studies.store import named_disk_errors


def write_html(path: Path, page: str) -> None:
    """Writes a page; the file appears only when it is whole. Makes the folder."""
    path = local_path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with named_disk_errors(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(page, encoding="utf-8")
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
