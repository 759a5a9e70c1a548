"""Label maps as files: PNG with a palette, 16 bit past 255 classes, and a JSON beside that says what was done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from diagnostics.images.class_colors import class_colors
from diagnostics.studies.store import named_disk_errors

# The value of pixels that no class was given to, such as those outside a center crop.
UNSCORED_8, UNSCORED_16 = 255, 65535


def write_label_map(
    path: Path, labels: np.ndarray, names: Sequence[str], *, background: int | None = None, about: str = ""
) -> None:
    """Writes a label map (H, W) of class numbers as PNG; it appears only when it is whole.

    Up to 255 classes: 8 bit with a palette, 255 for pixels without a class (-1). More: 16 bit, 65535 for those. `about`
    is written into the file's text.
    """
    small = len(names) <= UNSCORED_8
    without = UNSCORED_8 if small else UNSCORED_16
    values = np.where(labels < 0, without, labels)
    if small:
        image = Image.fromarray(values.astype(np.uint8), mode="P")
        palette = np.full((256, 3), 224, np.uint8)  # light gray where nothing was scored
        palette[: len(names)] = class_colors(len(names), background=background)
        image.putpalette(palette.tobytes())
    else:
        image = Image.fromarray(values.astype(np.uint16))
    text = PngImagePlugin.PngInfo()
    text.add_text("Description", about or "class numbers; names are in the JSON beside")
    _whole(path, lambda file: image.save(file, format="PNG", pnginfo=text))


def described_as(path: Path) -> str | None:
    """What `about` of `write_label_map` said of a label map; None for a file that is missing, damaged or of others."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            text = image.info.get("Description")
            image.verify()  # holds the content against its checksums
    except (OSError, SyntaxError, ValueError):
        return None
    return str(text) if text else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, which appears only when it is whole."""
    encoded = json.dumps(content, indent=1, ensure_ascii=False).encode()
    _whole(path, lambda file: file.write(encoded))


def _whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes beside the place and moves there at the end. A full disk is named."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with named_disk_errors(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                write(file)
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
