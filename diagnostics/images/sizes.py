"""The size that images are brought to: `224`, `336x224`, `short:336`, `native`."""

from __future__ import annotations

import re
from dataclasses import dataclass

# The long side's limit beside a given short side. Source: SCLIP's released configs, resize scale (2048, S).
LONGEST = 2048
# What an image may have that is opened, and so what it may be brought to.
MAX_PIXELS = 178_956_970

_SIZE_FORMS = (
    "`224` for 224x224, `336x224` for width x height, `short:336` for the short side with the aspect kept, "
    "or `native` for the image's own size"
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size that images are brought to; with no field set, each keeps its own.

    `height` and `width` stretch to exactly that. `short` keeps the aspect: factor min(2048 / long, short / short side),
    each side int(side·factor + 0.5), at least 1. Source of the rule: mmsegmentation's keep-ratio resize as SCLIP's
    released code uses it. `str` gives the text that `parse_size` reads.
    """

    height: int | None = None
    width: int | None = None
    short: int | None = None

    def __post_init__(self) -> None:
        sides = [side for side in (self.height, self.width, self.short) if side is not None]
        if (self.height is None) != (self.width is None) or (self.short is not None and self.height is not None):
            raise ValueError(f"a size should have height and width, or `short` alone, or nothing; got {self!r}.")
        if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
            raise ValueError(f"a side should be a whole number of at least 1 pixel; got {self!r}.")
        if self.height is not None and self.width is not None and self.height * self.width > MAX_PIXELS:
            raise ValueError(f"a size should have at most {MAX_PIXELS:,} pixels; got {self.width}x{self.height}.")
        if self.short is not None and self.short > LONGEST:
            raise ValueError(
                f"`short` should be at most {LONGEST}, the limit of the long side; got {self.short}. "
                "Give width and height: `WxH`."
            )

    def of(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) for an image of that width and height."""
        if width < 1 or height < 1:
            raise ValueError(f"an image should have at least 1x1 pixels; got width x height = {width}x{height}.")
        if self.short is not None:
            factor = min(LONGEST / max(width, height), self.short / min(width, height))
            return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
        return self.height or height, self.width or width

    def __str__(self) -> str:
        if self.short is not None:
            return f"short:{self.short}"
        if self.height is None:
            return "native"
        return str(self.height) if self.height == self.width else f"{self.width}x{self.height}"


def parse_size(text: str) -> Size:
    """The size that a text names: `224`, `336x224` (width x height), `short:336`, `native`. ValueError for others."""
    cleaned = text.strip().lower()
    if cleaned == "native":
        return Size()
    match = re.fullmatch(r"(?P<short>short:)?(?P<first>\d+)(?:[x×](?P<second>\d+))?", cleaned, re.ASCII)
    if not match or (match["short"] and match["second"]):
        raise ValueError(f"`{text}` is not a size. Give {_SIZE_FORMS}.")
    first, second = int(match["first"]), int(match["second"] or match["first"])
    if min(first, second) < 1:
        raise ValueError(f"a size should be at least 1 pixel; got `{text}`. Give {_SIZE_FORMS}.")
    return Size(short=first) if match["short"] else Size(height=second, width=first)


def as_size(size: Size | str | int | tuple[int, int]) -> Size:
    """A Size from a Size, a text (width x height, as the command line has it), a side, or a tuple (height, width)."""
    if isinstance(size, Size):
        return size
    if isinstance(size, str):
        return parse_size(size)
    if isinstance(size, int):
        return Size(height=size, width=size)
    if isinstance(size, tuple) and len(size) == 2:
        return Size(height=size[0], width=size[1])
    raise TypeError(f"`size` should be a Size, a text, a side, or a tuple (height, width); got {size!r}.")
