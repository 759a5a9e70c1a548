"""What each image shows, as one class: read from a table, and matched to the images of a run by name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from diagnostics.registry import unknown_name

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
        except ValueError as error:
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


def classes_of(images: Sequence[str], truth: Mapping[str, str], classes: Sequence[str]) -> list[int]:
    """The number of each image's class among `classes`, in the images' order.

    `truth` names an image as the run does, by its file's name, or by that without suffix, tried in this order; classes
    are compared without regard to case. ValueError for an image that it does not name, or a class that is not there.
    """
    numbers = {name.casefold(): number for number, name in enumerate(classes)}
    chosen: list[int] = []
    missing: list[str] = []
    for image in images:
        path = PurePosixPath(image)
        label = next((truth[name] for name in (image, path.name, path.stem) if name in truth), None)
        if label is None:
            missing.append(image)
        elif label.casefold() not in numbers:
            raise unknown_name(f"class for the image `{image}`", label, classes)
        else:
            chosen.append(numbers[label.casefold()])
    if missing:
        raise ValueError(
            f"`truth` should have a class for every image; {len(missing)} of {len(images)} have none, the first "
            f"`{missing[0]}`. Name them, or leave them out of the run."
        )
    return chosen
