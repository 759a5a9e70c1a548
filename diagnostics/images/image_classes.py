"""What each image shows, as one class: read from a table, and matched to the images of a run by name."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from diagnostics.images.file_names import plain_name
from diagnostics.registry import unknown_name

MOST_NAMED = 5  # rows in a warning
# Words over the second column of a table, which are no class.
HEADINGS = ("class", "label", "category")


def read_classes(path: str | Path) -> dict[str, str]:
    """Image's name -> class's name: a CSV file with these two columns, or a JSON object.

    A first row of CSV that heads its second column `class`, `label` or `category` is skipped. ValueError for a file
    that can't be read so, and for an image that has two classes.
    """
    path = Path(path).expanduser()
    advice = 'It should be a CSV file with the columns image,class, or a JSON object {"a.jpg": "cat"}.'
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"`{path}` can't be read: {error}. {advice}") from error
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"`{path}` is no JSON: {error}. {advice}") from error
        if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
            raise ValueError(f"`{path}` should hold one object with a text for each image. {advice}")
        pairs = list(content.items())
    else:
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(map(str.strip, row))]
        for number, row in enumerate(rows, start=1):
            if len(row) != 2 or not all(row):
                raise ValueError(f"row {number} of `{path}` should have two columns; got {row}. {advice}")
        pairs = [(row[0], row[1]) for row in rows]
        if pairs and pairs[0][1].casefold() in HEADINGS:
            pairs = pairs[1:]
    if not pairs:
        raise ValueError(f"`{path}` names no image. {advice}")
    classes: dict[str, str] = {}
    for name, label in pairs:
        if classes.setdefault(name, label) != label:
            raise ValueError(f"`{path}` gives `{name}` two classes, `{classes[name]}` and `{label}`; keep one.")
    return classes


def labels_by_image(images: Sequence[str], truth: Mapping[str, str]) -> dict[str, str]:
    """Image -> its class's name, for the images that the rows of `truth` name.

    A row names an image as the run does, by a part of its path that ends it, such as the file's name, or by a longer
    path; each with or without its suffix, with slashes or backslashes, and letters composed or not. An image that has a
    row of its very name takes no other. ValueError for a row that several images fit, and for an image to which rows
    give two classes; a warning names the rows that no image fits.
    """
    rows = _rows_of(truth)
    plain = {image: plain_name(image) for image in images}
    exact = {image: rows[name] for image, name in plain.items() if name in rows}
    used = {written for written, _ in exact.values()}
    others = {name: row for name, row in rows.items() if row[0] not in used}
    fits = _fitting(others, {image: name for image, name in plain.items() if image not in exact})
    used |= {written for labels in fits.values() for written in labels}
    _warn_of_unused([written for written, _ in rows.values() if written not in used], len(rows), images)
    chosen = {image: label for image, (_, label) in exact.items()} | {
        image: next(iter(labels.values())) for image, labels in fits.items()
    }
    return {image: chosen[image] for image in images if image in chosen}


def _rows_of(truth: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Plain name -> the name as written and its class; ValueError where two rows of one name differ."""
    rows: dict[str, tuple[str, str]] = {}
    for name, label in truth.items():
        written, other = rows.setdefault(plain_name(name), (name, label))
        if other != label:
            raise ValueError(
                f"`truth` gives one image two classes, `{other}` as `{written}` and `{label}` as `{name}`."
            )
    return rows


def _fitting(rows: Mapping[str, tuple[str, str]], images: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Image -> the rows that fit it, as written, with their class: one class for each image, one image for each row.

    `rows` by plain name, as of `_rows_of`; `images` with their plain names.
    """
    by_stem: dict[str, list[str]] = {}
    for image, name in images.items():
        by_stem.setdefault(PurePosixPath(name).stem, []).append(image)
    fits: dict[str, dict[str, str]] = {}
    for name, (written, label) in rows.items():
        path = PurePosixPath(name)
        candidates = dict.fromkeys([*by_stem.get(path.stem, ()), *by_stem.get(path.name, ())])
        fitting = [image for image in candidates if _fits(images[image], name)]
        if len(fitting) > 1:
            raise ValueError(
                f"`truth` names `{written}`, which fits {len(fitting)} images, `{fitting[0]}` and `{fitting[1]}` among "
                "them. Name each with its folder, as the run does."
            )
        if fitting:
            fits.setdefault(fitting[0], {})[written] = label
    for image, labels in fits.items():
        if len(set(labels.values())) > 1:
            raise ValueError(
                f"`truth` gives the image `{image}` several classes: "
                + ", ".join(f"`{label}` as `{written}`" for written, label in labels.items())
                + ". Keep one."
            )
    return fits


def _fits(image: str, row: str) -> bool:
    """Whether one path ends the other, folder by folder; a row without a suffix fits any."""
    forms = [image, str(PurePosixPath(image).with_suffix(""))] if image else []
    return any(form == row or form.endswith(f"/{row}") or row.endswith(f"/{form}") for form in forms)


def _warn_of_unused(unused: Sequence[str], rows: int, images: Sequence[str]) -> None:
    if unused and len(unused) < rows:  # where none fits, the caller says so
        names = ", ".join(f"`{name}`" for name in unused[:MOST_NAMED])
        more = f" and {len(unused) - MOST_NAMED} more" if len(unused) > MOST_NAMED else ""
        warnings.warn(
            f"{len(unused)} of the {rows} rows of `truth` fit no image: {names}{more}. The run names images such as "
            f"`{images[0]}`.",
            stacklevel=4,
        )


def spelled(image: str, label: str, classes: Sequence[str]) -> int:
    """The number of a class among `classes`, without regard to case; ValueError for one that is not there."""
    numbers = {plain_name(name).casefold(): number for number, name in enumerate(classes)}
    number = numbers.get(plain_name(label).casefold())
    if number is None:
        raise unknown_name(f"class for the image `{image}`", label, classes)
    return number


def classes_of(images: Sequence[str], truth: Mapping[str, str], classes: Sequence[str]) -> list[int]:
    """The number of each image's class among `classes`, in the images' order; `truth` as in `labels_by_image`.

    ValueError for an image that it does not name, or a class that is not there.
    """
    labels = labels_by_image(images, truth)
    missing = [image for image in images if image not in labels]
    if missing:
        raise ValueError(
            f"`truth` should have a class for every image; {len(missing)} of {len(images)} have none, the first "
            f"`{missing[0]}`. Name them, or leave them out of the run."
        )
    return [spelled(image, labels[image], classes) for image in images]
