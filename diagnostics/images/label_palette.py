"""Palettes: which class each color of a color-coded label map stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from diagnostics.images.errors import FileError

# The name of the palette of grays in three equal channels, whose value is the number.
GRAY = "gray"
MOST_NAMED = 5  # colors in a message


class LabelError(FileError):
    """A label map that is not there, or can't be read as class numbers."""


@dataclass(frozen=True)
class Palette:
    """Color (red, green, blue) -> number; `grays`: three equal channels are the number, and `colors` is empty."""

    colors: Mapping[tuple[int, int, int], int]
    grays: bool = False

    def numbers(self, image: Image.Image, path: Path) -> np.ndarray:
        """An image (h, w) of these colors as numbers (h, w), int64. LabelError for a color that it does not have."""
        if image.mode not in ("RGB", "RGBA", "P", "L", "1"):
            raise LabelError(path, f"has no colors of 8 bits (mode {image.mode})", "Export it as PNG in RGB")
        if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise LabelError(path, "has transparent pixels, which have no color", "Export it without transparency")
        pixels = np.asarray(image.convert("RGB")).astype(np.int64)
        if self.grays:
            if (pixels != pixels[..., :1]).any():
                raise LabelError(path, "has colors, not grays in three equal channels", "Give the colors: palette=FILE")
            return pixels[..., 0]
        codes = pixels @ (1 << 16, 1 << 8, 1)
        values, places = np.unique(codes, return_inverse=True)
        known = {_code(color): number for color, number in self.colors.items()}
        strange = [int(value) for value in values if int(value) not in known]
        if strange:
            names = ", ".join(f"#{value:06x}" for value in strange[:MOST_NAMED])
            more = f" and {len(strange) - MOST_NAMED} more" if len(strange) > MOST_NAMED else ""
            raise LabelError(path, f"has colors that the palette lacks: {names}{more}", "Add them, or check the map")
        return np.array([known[int(value)] for value in values], dtype=np.int64)[places].reshape(codes.shape)


def _code(color: tuple[int, int, int]) -> int:
    red, green, blue = color
    return red << 16 | green << 8 | blue


def numbered_palette(name: str | Path) -> Palette:
    """`gray`, or a file with a color a line: line n, from 0, is the color of the number n."""
    return Palette({}, grays=True) if str(name) == GRAY else read_palette(Path(name).expanduser(), None)


def read_palette(path: Path, values: list[int] | None) -> Palette:
    """A palette from a file with a color a line, `#800000` or `128 0 0`: line n is the color of values[n], or of n.

    LabelError for a line of another form, a color that comes twice, and another number of lines; the last value may
    be left out.
    """
    advice = "It should have a color a line, #800000 or 128 0 0, in the order of the classes"
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(path, f"can't be read as a palette ({error})", advice) from error
    if values is None:
        values = list(range(len(lines)))
    if not lines or len(lines) not in (len(values) - 1, len(values)):
        raise LabelError(
            path, f"has {len(lines)} colors for {len(values) - 1} classes", f"{advice}; one more is no class"
        )
    colors: dict[tuple[int, int, int], int] = {}
    for number, (line, value) in enumerate(zip(lines, values, strict=False), start=1):
        color = _color(line)
        if color is None:
            raise LabelError(path, f"has no color in line {number}: {line!r}", advice)
        if color in colors:
            raise LabelError(path, f"has the color {line} twice, line {number} the second", advice)
        colors[color] = value
    return Palette(colors)


def _color(line: str) -> tuple[int, int, int] | None:
    if match := re.fullmatch(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", line):
        red, green, blue = (int(part, 16) for part in match.groups())
    elif match := re.fullmatch(r"[\[(]?\s*(\d{1,3})[,;\s]+(\d{1,3})[,;\s]+(\d{1,3})\s*[\])]?,?", line):
        red, green, blue = map(int, match.groups())
    else:
        return None
    return (red, green, blue) if max(red, green, blue) <= 255 else None
