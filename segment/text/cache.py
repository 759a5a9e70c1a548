"""Rows of words kept on disk, so that a list of words is encoded once for a model and its templates."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

# Changes when the same key would lead to other numbers, or the files are laid out in another way.
FORMAT = 1
VARIABLE = "OUTLIERS_CACHE"


def cache_folder() -> Path:
    """Where caches are kept: OUTLIERS_CACHE, or `attention-outliers` in XDG_CACHE_HOME, which is ~/.cache by default.

    The same rule on every system, as torch and Hugging Face have it.
    """
    if os.environ.get(VARIABLE):
        return Path(os.environ[VARIABLE]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "attention-outliers"


def cache_file(folder: Path, key: Mapping[str, Any]) -> Path:
    """The file of one model and its templates: named by a hash of everything that its numbers depend on."""
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    return folder / "text" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"


def read_rows(path: Path) -> dict[str, Tensor]:
    """Word -> (E,) of a cache file, fp32; nothing where there is none.

    A file that is damaged counts for nothing as well, with a warning: its words are encoded again.
    """
    if not path.exists():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            notes, features = file.metadata(), file.get_tensor("features")
        words = json.loads(notes["words"])
        if notes["digest"] != _digest(words, features):
            raise ValueError("its checksum is not that of its content")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        warnings.warn(f"cache file `{path}` can't be used and is made again ({error}).", UserWarning, stacklevel=2)
        return {}
    return dict(zip(words, features, strict=True))


def write_rows(path: Path, rows: Mapping[str, Tensor], *, key: Mapping[str, Any]) -> bool:
    """Adds rows (E,) to a cache file and puts it in place whole, so that no reader ever sees half of it.

    `key` is written into the file for people who look. A disk that is full or can't be written to gives a warning and
    False: a cache may be missing. Of two processes that write at once, one may lose its rows; they are encoded again.
    """
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        everything = read_rows(path) | dict(rows)
        words, features = list(everything), torch.stack(list(everything.values())).float().cpu()
        notes = {"words": json.dumps(words), "digest": _digest(words, features), "key": json.dumps(key, sort_keys=True)}
        temporary.write_bytes(save({"features": features}, metadata=notes))
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        warnings.warn(
            f"encoded words can't be kept in `{path.parent}` ({error}), so the next start encodes them again. Free "
            f"some space, or name another folder: {VARIABLE}=FOLDER.",
            UserWarning,
            stacklevel=2,
        )
        return False
    return True


def _digest(words: list[str], features: Tensor) -> str:
    digest = hashlib.sha256(json.dumps([words, list(features.shape), str(features.dtype)]).encode())
    digest.update(features.contiguous().numpy().data)
    return digest.hexdigest()
