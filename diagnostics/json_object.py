"""JSON files of ours, read back: an object, or an error that names the file."""

from __future__ import annotations

import json
from typing import Any


class DamagedFile(ValueError):
    """A file that a run wrote and that holds something else now."""


def json_object(content: bytes | str, place: object, advice: str) -> dict[str, Any]:
    """The object that JSON holds. DamagedFile, which names `place` and ends with `advice`, for anything else."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
    else:
        if isinstance(value, dict):
            return value
        reason = f"it holds {'null' if value is None else type(value).__name__}"
    raise DamagedFile(f"`{place}` is damaged: it should be a JSON object ({reason}). {advice}")
