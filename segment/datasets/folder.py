"""`folder`: any images with label maps, and a file that names the classes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from diagnostics.images import find_images
from diagnostics.images.label_maps import LABEL_SUFFIXES, LabelError, find_label, shared_labels
from diagnostics.images.label_palette import GRAY, Palette, read_palette
from segment.datasets.arrangement import DatasetError, LabeledImage, Listing
from segment.datasets.codes import IGNORE, IGNORE_WIDE, Codes, as_they_are, one_less
from segment.datasets.facts import DatasetFacts, Miniature
from segment.datasets.on_disk import OnDisk
from segment.text.vocabulary import Vocabulary

OTHER_VALUES = (
    "Check that it is a map of these classes: where values count from 1, say first=1; for others, values=0+255 names "
    "those of all classes in their order"
)


def miniature(mini: Miniature) -> None:
    """Three images, one of them in a folder below, and three classes."""
    for name, values in (("a", {0, 1, 2}), ("b/c", {2, 255}), ("d", {0})):
        mini.image(f"images/{name}.jpg")
        mini.mask(f"masks/{name}.png", name, values)
    mini.lines("classes.txt", ["cat, kitten", "dog", "grass"])


@DatasetFacts(classes=None, images=None, miniature=miniature)
def folder(
    *,
    root: str | Path,
    images: str = "images",
    masks: str = "masks",
    classes: str = "classes.txt",
    first: Literal[0, 1] = 0,
    ignore: int | None = None,
    background: int | None = None,
    values: str | None = None,
    palette: str | None = None,
    exif: Literal["upright", "stored"] | None = None,
) -> OnDisk:
    """Your own images and label maps: as many classes as your file has lines.

    Below `root`: a folder of images, a folder of label maps with the same names (.png, .tif, .bmp; class numbers, or
    a palette whose indices are the numbers), and a class-name file. The classes have the values from `first` on; with
    1, the value 0 is not scored. Nor is `ignore`: 255 or, from 255 classes on, 65535. `background` is the label of the
    class for the rest, if there is one. `values`: the classes' values in their order where they are others, `0+255` for
    binary masks. `palette`: a file below the root with a color a line (`#800000`, `128 0 0`) where label maps hold
    colors, a line for each class and perhaps one for what is not scored; or `gray` for three equal channels. `exif`:
    what label maps belong to where EXIF turns an image, `upright` (as it is shown; the default) or `stored`.
    """
    base = Path(root).expanduser()
    _check_folders(base, images, masks, classes)
    names = Vocabulary.read(base / classes).names
    void = _ignored_value(len(names), ignore, background)
    title = f"labels of the {len(names)} classes"
    if values is not None:
        codes = Codes(title, {void: void} | _values(values, len(names), first))
    elif first == 1:
        codes = one_less(f"{title} (0 not scored)", len(names), ignored=(0, void), ignore=void)
    else:
        codes = as_they_are(title, len(names), ignored=(void,), ignore=void)
    codes = replace(codes, advice=OTHER_VALUES)
    pairs = _pairs(base / images, base / masks)
    complete = sum(os.path.isfile(pair.mask) for pair in pairs)
    if not complete:
        raise DatasetError(
            base / masks,
            f"has no label map for any of the {len(pairs)} images; the first should be {pairs[0].mask}",
            "Give the label maps the names of their images",
        )
    return OnDisk(
        title=f"{base.name}, {len(names)} classes",
        names=names,
        ignore=void,
        background=background,
        exif=exif or "upright",
        palette=_palette(base, palette, [*range(first, first + len(names)), void]),
        listing=Listing(pairs, codes, complete, _orphans(base / masks, pairs), base=base),
    )


def _values(text: str, classes: int, first: int) -> dict[int, int]:
    """`0+255` -> {0: 0, 255: 1}."""
    numbers = text.split("+")
    if not all(map(str.isdecimal, numbers)) or len(set(map(int, numbers))) != classes or first:
        raise ValueError(
            f"`values` should be {classes} different numbers with + between, one a class in their order, and without "
            f"`first`; got `{text}`."
        )
    return {int(number): label for label, number in enumerate(numbers)}


def _palette(base: Path, name: str | None, values: list[int]) -> Palette | None:
    if name is None:
        return None
    return Palette({}, grays=True) if name == GRAY else read_palette(base / name, values)


def _check_folders(base: Path, images: str, masks: str, classes: str) -> None:
    """DatasetError unless the folders of images and label maps exist."""
    if not base.is_dir():
        raise DatasetError(base, "is not a directory", f"Give the one that holds {images}/, {masks}/ and {classes}")
    for option, name, content in (("images", images, "images"), ("masks", masks, "label maps")):
        if not (base / name).is_dir():
            entries = ", ".join(sorted(entry.name for entry in base.iterdir())[:6]) or "nothing"
            raise DatasetError(
                base / name,
                f"is not a directory; `{base}` holds {entries}",
                f"It should hold the {content}; or name another folder: {option}=NAME",
            )


def _ignored_value(classes: int, ignore: int | None, background: int | None) -> int:
    """The label of unscored pixels: the one asked for, or the usual one beyond all classes."""
    void = ignore if ignore is not None else (IGNORE if classes < IGNORE else IGNORE_WIDE)
    if not classes <= void <= IGNORE_WIDE or (background is not None and not 0 <= background < classes):
        raise ValueError(
            f"with {classes} classes, `ignore` should be {classes}…{IGNORE_WIDE} and `background` a label below "
            f"{classes}, or none; got ignore={void}, background={background}."
        )
    return void


def _orphans(masks: Path, pairs: Sequence[LabeledImage]) -> tuple[str, ...]:
    """Label maps that belong to no image."""
    known = {os.path.realpath(pair.mask) for pair in pairs}
    maps = (Path(directory) / file for directory, _, files in os.walk(masks, followlinks=True) for file in files)
    return tuple(
        str(path)
        for path in sorted(maps)
        if path.suffix.lower() in LABEL_SUFFIXES and path.name[0] != "." and os.path.realpath(path) not in known
    )


def _pairs(images: Path, masks: Path) -> tuple[LabeledImage, ...]:
    """Every image with its label map or, where there is none, the place where it should be.

    DatasetError for two images that would share one.
    """
    paths = [path for path in find_images(images) if masks not in path.parents or images == masks]
    below = [path.relative_to(images) for path in paths]
    for number, (label, other) in shared_labels(below, masks).items():
        raise DatasetError(
            label,
            f"would be the label map of both {paths[number]} and {paths[other]}",
            f"Give each image its own, in sub-folders of {masks} that are named as the image's, or as "
            f"{paths[number].name}.png",
        )
    stems = Counter(str(path.with_suffix("")) for path in below)
    pairs = []
    for path, relative in zip(paths, below, strict=True):
        stem = relative.with_suffix("").as_posix()
        # Two images that differ in their suffix only keep it: names are unique.
        name = stem if stems[str(relative.with_suffix(""))] == 1 else relative.as_posix()
        try:
            mask = find_label(relative, masks)
        except LabelError:
            mask = masks / f"{stem}.png"
        pairs.append(LabeledImage(name, str(path), str(mask)))
    return tuple(pairs)
