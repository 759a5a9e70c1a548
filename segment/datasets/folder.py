"""`folder`: any images with label maps, and a file that names the classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from diagnostics.images import find_images
from diagnostics.images.label_maps import LABEL_SUFFIXES, LabelError, find_label
from segment.datasets.arrangement import DatasetError, Listing, Pair
from segment.datasets.codes import IGNORE, IGNORE_WIDE, as_they_are, one_less
from segment.datasets.on_disk import OnDisk
from segment.text.vocabulary import Vocabulary


def folder(
    *,
    root: str | Path,
    images: str = "images",
    masks: str = "masks",
    classes: str = "classes.txt",
    first: Literal[0, 1] = 0,
    ignore: int | None = None,
    background: int | None = None,
) -> OnDisk:
    """Your own images and label maps: as many classes as your file has lines.

    Below `root`: a folder of images, a folder of label maps with the same names (.png, .tif, .bmp; class numbers, or
    a palette whose indices are the numbers), and a class-name file. The classes have the values from `first` on; with
    1, the value 0 is not scored. Nor is `ignore`: 255 or, from 255 classes on, 65535. `background` is the label of the
    class for the rest, if there is one.
    """
    base = Path(root).expanduser()
    if not base.is_dir():
        raise DatasetError(base, "is no folder", f"Give the one that holds {images}/, {masks}/ and {classes}")
    for name in (images, masks):
        if not (base / name).is_dir():
            there = ", ".join(sorted(entry.name for entry in base.iterdir())[:6]) or "nothing"
            advice = f"It should hold the {'images' if name == images else 'label maps'}; or name another folder: "
            option = "images" if name == images else "masks"
            raise DatasetError(base / name, f"is no folder; `{base}` holds {there}", f"{advice}{option}=NAME")
    names = Vocabulary.read(base / classes).names
    void = ignore if ignore is not None else (IGNORE if len(names) < IGNORE else IGNORE_WIDE)
    if not len(names) <= void <= IGNORE_WIDE or (background is not None and not 0 <= background < len(names)):
        raise ValueError(
            f"with {len(names)} classes, `ignore` should be {len(names)}…{IGNORE_WIDE} and `background` a label below "
            f"{len(names)}, or none; got ignore={void}, background={background}."
        )
    title = f"labels of the {len(names)} classes"
    if first == 1:
        codes = one_less(f"{title} (0 not scored)", len(names), ignored=(0, void), ignore=void)
    else:
        codes = as_they_are(title, len(names), ignored=(void,), ignore=void)
    pairs = _pairs(base / images, base / masks)
    known = {os.path.realpath(pair.mask) for pair in pairs}
    maps = (Path(place) / file for place, _, files in os.walk(base / masks, followlinks=True) for file in files)
    orphans = tuple(
        str(path)
        for path in sorted(maps)
        if path.suffix.lower() in LABEL_SUFFIXES and path.name[0] != "." and os.path.realpath(path) not in known
    )
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
        listing=Listing(pairs, codes, complete, orphans, base=base),
    )


def _pairs(images: Path, masks: Path) -> tuple[Pair, ...]:
    """Every image with its label map or, where there is none, the place where it should be."""
    found = [path for path in find_images(images) if masks not in path.parents or images == masks]
    below = {path: path.relative_to(images) for path in found}
    stems = [str(path.with_suffix("")) for path in below.values()]
    pairs = []
    for path, relative in below.items():
        stem = relative.with_suffix("").as_posix()
        # Two images that differ in their suffix only keep it: names are unique.
        name = stem if stems.count(stem) == 1 else relative.as_posix()
        try:
            mask = find_label(relative, masks)
        except LabelError:
            mask = masks / f"{stem}.png"
        pairs.append(Pair(name, str(path), str(mask)))
    return tuple(pairs)
