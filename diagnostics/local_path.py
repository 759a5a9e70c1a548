"""Where a run writes on this machine."""

from __future__ import annotations

import re
from pathlib import Path


def local_path(place: str | Path) -> Path:
    """The path with `~` as the home folder. ValueError for a URL, which would become a folder called `s3:`."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(place)):
        raise ValueError(f"`{place}` is a URL; this command writes to folders of this machine only. Name one.")
    return Path(place).expanduser()
