"""The page: arrays packed, reduced where they are too many, and put into the template."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from diagnostics.images.class_colors import class_colors
from diagnostics.studies.image_report import ImageReport
from figures.look import BLUE, GREEN, MAP_COLORS, ORANGE, PURPLE, SKY, VERMILION
from figures.view.packing import pack, pack_rows

FOLDER = Path(__file__).parent
FILES = {"style": "page.css", "script": "page.js"}
LIMIT = 15_000_000  # bytes of the page

# Pixels of the longer side, and the quality of the JPEG: our choice, sharp enough on a wide screen, some 60 kB each.
IMAGE_SIDE, IMAGE_QUALITY = 640, 86
LABELS_SIDE = 320
NO_LABEL = 65535
# Per cent of the values on either side that may saturate a color of the features' map. Our choice.
SATURATED = 2.0

# A color and a sign for every detector: either alone tells them apart. Black stays for the pointed patch.
MARKS = (VERMILION, SKY, GREEN, PURPLE, ORANGE, BLUE)
LINES = {"patch": VERMILION, "class": GREEN}

# What goes when the page would be too large, one after another, and how the page says it.
REDUCTIONS = (
    "",
    "attention of single heads; the mean over heads is here",
    "similarity after purifying",
    "attention and similarity of every second layer",
    "attention and similarity of all but every fourth layer",
    "attention and similarity of all but every eighth layer",
)
_EVERY = (1, 1, 1, 2, 4, 8)


@dataclass(frozen=True, kw_only=True)
class PageImage:
    """One image of the page: what is inside, and its label maps (H, W) by method, in the image's own size.

    Labels are numbers of `classes`, -1 where there is none; `background` is the class that stands for the rest.
    """

    inside: ImageReport
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    background: int | None = None


def page_html(
    images: Iterable[PageImage],
    *,
    title: str,
    note: str = "",
    limit: int = LIMIT,
) -> str:
    """One HTML page of at most `limit` bytes that needs no network: the text of the file.

    `images` are taken one at a time, and only what the page holds is kept of each. Where it would be too large,
    `REDUCTIONS` are made one after another, for all images alike, and said on the page; ValueError where all of them
    are not enough. The same images give the same text.
    """
    shell = _shell(title)
    packed: list[dict[str, Any]] = []
    level = 0
    # Every image comes with a comma, but the last.
    fixed = sum(len(part.encode()) for part in shell) + len(',"images":[]') - 1
    room = limit - fixed - len(_script(_common(note, level)))
    sizes: list[int] = []
    for image in images:
        packed.append(_packed(image, level))
        sizes.append(len(_script(packed[-1])) + 1)
        while sum(sizes) > room:
            level += 1
            if level == len(REDUCTIONS):
                raise ValueError(
                    f"{len(packed)} images should fit into a page of {limit / 1e6:g} MB; they do not, even with "
                    "every eighth layer. Give fewer images, fewer --layers, or a smaller --size."
                )
            for kept in packed:
                _reduce(kept, level)
            sizes = [len(_script(kept)) + 1 for kept in packed]
            room = limit - fixed - len(_script(_common(note, level)))
    if not packed:
        raise ValueError("`images` should hold at least one image; got none.")
    data = _common(note, level) | {"images": packed}
    return shell[0] + _script(data) + shell[1]


def left_out(level: int) -> list[str]:
    """What the page says at a level. Of every second layer and every fourth, the last says it all."""
    return [*REDUCTIONS[1 : min(level, 2) + 1], *([REDUCTIONS[level]] if level > 2 else [])]


def _shell(title: str) -> tuple[str, str]:
    """The page before its data and after."""
    parts = {name: (FOLDER / file).read_text(encoding="utf-8") for name, file in FILES.items()}
    parts["title"] = html.escape(title)
    before, _, after = (FOLDER / "page.html").read_text(encoding="utf-8").partition("{{data}}")
    return _filled(before, parts), _filled(after, parts)


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with its words replaced in one go: a part that holds such a word itself is left as it is."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _common(note: str, level: int) -> dict[str, Any]:
    table = (matplotlib.colormaps[MAP_COLORS](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return {
        "note": note,
        "left_out": left_out(level),
        "colors": {"map": table.ravel().tolist(), "marks": MARKS, "lines": LINES},
        "no_label": NO_LABEL,
    }


def _script(data: Any) -> str:
    """JSON that may stand inside a script element: no `<`, which could end it."""
    return json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _packed(image: PageImage, level: int) -> dict[str, Any]:
    inside = image.inside
    layout = inside.layout
    count = len(inside.layers)
    kept = _kept(count, level)

    def rows(values: np.ndarray | None, law: Any, least: int) -> list[Any]:
        """Maps of the layers that this level keeps; `least` is the level at which all of them go."""
        if values is None or level >= least:
            return [None] * count
        return [pack_rows(values[place], law) if kept[place] else None for place in range(count)]

    never = len(REDUCTIONS)
    colors, purified_colors = _as_colors(inside.components, inside.purified_components)
    return {
        "name": inside.name,
        "jpeg": _jpeg(inside.image),
        "inset": [round(share, 6) for share in inside.inset],
        "aspect": round(inside.aspect, 6),
        "grid": [layout.grid.rows, layout.grid.cols],
        "prefix": layout.prefix,
        "class_index": layout.class_index,
        "layers": list(inside.layers),
        "norms": pack(inside.norms),
        "mean_attention": rows(inside.mean_attention, "square", never),
        "attention": rows(inside.attention, "square", 1),
        "similarity": rows(inside.similarity, "even", never),
        "purified_similarity": rows(inside.purified_similarity, "even", 2),
        "purified_norms": pack(inside.purified_norms),
        "features": pack(colors),
        "purified_features": pack(purified_colors),
        "purifier": inside.purifier,
        "purified_by": inside.purified_by,
        "detectors": [
            {
                "spec": spec,
                "threshold": detector.threshold,
                "published": detector.published,
                "scores": pack(detector.scores),
                "marked": pack(detector.marked.astype(np.uint8)),
            }
            for spec, detector in inside.scored.items()
        ],
        "classes": list(image.classes),
        "class_colors": class_colors(len(image.classes), background=image.background).tolist(),
        "labels": {method: pack(_small_labels(labels)) for method, labels in image.labels.items()},
    }


def _kept(count: int, level: int) -> list[bool]:
    """Which of the layers keep their maps, the last one always."""
    return [(count - 1 - place) % _EVERY[level] == 0 for place in range(count)]


def _reduce(image: dict[str, Any], level: int) -> None:
    """Takes out of a packed image what this level does not hold."""
    kept = _kept(len(image["layers"]), level)
    gone = {"attention": 1, "purified_similarity": 2}
    for what in ("mean_attention", "attention", "similarity", "purified_similarity"):
        whole = level >= gone.get(what, len(REDUCTIONS))
        image[what] = [maps if keep and not whole else None for maps, keep in zip(image[what], kept, strict=True)]


def _as_colors(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Component scores (K, N, 3) as colors: uint8 of the same shapes, on one scale, which the purified ones set."""
    low, high = np.percentile(after, [SATURATED, 100 - SATURATED], axis=1, keepdims=True)
    spread = np.where(high > low, high - low, 1)
    first, second = ((np.clip((scores - low) / spread, 0, 1) * 255).round() for scores in (before, after))
    return first.astype(np.uint8), second.astype(np.uint8)


def _jpeg(pixels: np.ndarray) -> str:
    image = Image.fromarray(pixels)
    image.thumbnail((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=IMAGE_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _small_labels(labels: np.ndarray) -> np.ndarray:
    """Labels (H, W) at the size of the page, nearest pixel, with NO_LABEL for -1: uint16."""
    if labels.ndim != 2 or labels.max(initial=0) >= NO_LABEL:
        raise ValueError(f"`labels` should be (H, W) numbers below {NO_LABEL}; got {labels.shape}.")
    share = min(1.0, LABELS_SIDE / max(labels.shape))
    places = [
        ((np.arange(n) + 0.5) * side / n).astype(np.int64)
        for side in labels.shape
        for n in [max(1, round(side * share))]
    ]
    small = labels[np.ix_(*places)]
    return np.where(small < 0, NO_LABEL, small).astype(np.uint16)
