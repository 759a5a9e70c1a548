"""Words in the room that a figure has: measured in inches, broken between words, shortened at their borders."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ft2font import FT2Font, LoadFlags

from figures.text import without_folders

FONT = "DejaVu Sans"
SLACK = 1.04  # hinting makes letters of a canvas a little wider than those of the font
DRAWN = 100.0  # points at which letters are measured: their widths have no steps of pixels there
ELLIPSIS = "…"
# A name is broken behind these, and only where it does not fit as a whole.
JOINTS = re.compile(r"(?<=[,:/\\@(=])|(?<=[_.;-])")


@cache
def _font() -> FT2Font:
    return get_font(findfont(FontProperties(family=FONT)))


@cache
def width_of(text: str, size: float) -> float:
    """Inches that a line of text takes at `size` points."""
    font = _font()
    font.set_size(DRAWN, 72)
    font.set_text(text, 0.0, flags=LoadFlags.NO_HINTING)
    return float(font.get_width_height()[0]) / 64 / 72 * size / DRAWN * SLACK


def pieces_of(word: str) -> list[str]:
    """A name in the pieces that its signs join: `timm:vit_tiny@a.bin` -> `timm:`, `vit_`, `tiny@`, `a.`, `bin`."""
    return [piece for piece in JOINTS.split(word) if piece]


def shortened_to(text: str, inches: float, size: float) -> str:
    """One line within `inches`: whole words or pieces of a name leave its middle for …, letters only of a single word.

    The beginning keeps at least as much as the end.
    """
    if width_of(text, size) <= inches:
        return text
    pieces = [piece for word in re.split(r"(?<= )", text) for piece in pieces_of(word)]
    # Letters of two pieces that are both longer than the room would leave nothing: then letters are the pieces.
    for parts in (pieces, list(text)):
        for kept in range(len(parts) - 1, 1, -1):
            before, after = kept - kept // 2, kept // 2
            candidate = "".join(parts[:before]).rstrip() + ELLIPSIS + "".join(parts[len(parts) - after :]).lstrip()
            if width_of(candidate, size) <= inches:
                return candidate
    return ELLIPSIS


def lines_within(text: str, inches: float, size: float, *, most: int | None = None) -> str:
    """Text in lines of at most `inches` at `size` points, broken between words; its own line breaks stay.

    A name that is longer than a line is broken behind the signs that join it, and a piece that still does not fit
    loses its middle. Past `most` lines the rest is left out, and the last line shortened with ….
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += _broken(paragraph, inches, size)
    if most is not None and len(lines) > most:
        rest = " ".join(text.split("\n"))
        lines = [*lines[: most - 1], shortened_to(_after(rest, lines[: most - 1]), inches, size)]
    return "\n".join(lines)


def _broken(paragraph: str, inches: float, size: float) -> list[str]:
    lines = [""]
    for word in re.split(r"(?<= )", paragraph):
        whole = width_of(word.rstrip(), size) <= inches
        if not whole and lines[-1]:
            lines.append("")  # a long name begins a line
        for piece in [word] if whole else pieces_of(word):
            if lines[-1] and width_of((lines[-1] + piece).rstrip(), size) > inches:
                lines.append("")
            lines[-1] += shortened_to(piece, inches, size) if width_of(piece.rstrip(), size) > inches else piece
    return [line.rstrip() for line in lines]


def _after(text: str, lines: list[str]) -> str:
    """What is left of the text behind these lines of it."""
    for line in lines:
        text = text.removeprefix(line).lstrip()
    return text


def backbone_name(spec: str) -> str:
    """A backbone as figures name it: without the weights' file, or that file alone where it is all there is.

    `timm:vit_tiny_patch16_224@/data/a.safetensors` -> `timm:vit_tiny_patch16_224`, `openai:/data/ViT-B-16.pt` ->
    `openai:ViT-B-16.pt`. The whole spec stands in the metadata of the figure's file.
    """
    short = without_folders(spec)
    return short.partition("@")[0]


def backbone_names(specs: Iterable[str]) -> dict[str, str]:
    """Names of several backbones, with their files where they would otherwise be the same."""
    specs = list(specs)
    names = {spec: backbone_name(spec) for spec in specs}
    for name_of in (without_folders, str):
        shown = list(names.values())
        names = {spec: name if shown.count(name) == 1 else name_of(spec) for spec, name in names.items()}
    return names
