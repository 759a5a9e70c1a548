"""What a data set on disk lacks, said before a long run starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diagnostics.images import FileError
from diagnostics.images.feed import progress_bar
from diagnostics.images.read import orientation_of
from diagnostics.registry import parse_spec
from segment.datasets import open_dataset
from segment.datasets.base import Sample
from segment.datasets.on_disk import OnDisk

# Pairs that are opened unless all are asked for. Our choice: a few seconds' work.
SAMPLE = 50
# How many files of a kind a message names.
NAMED = 5


@dataclass(frozen=True)
class Check:
    """What was found. `problems` would change a number or break a run; `notes` say what is there."""

    spec: str
    title: str
    images: int
    expected: int | None
    opened: int
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, broken or unknown in what was looked at."""
        return not self.problems


def check(spec: str, root: str | Path, *, every: bool = False, progress: bool = False) -> Check:
    """Compares the data set below `root` with what it should be.

    Counts images against the whole data set; lists label maps that are missing and those without an image; opens
    `SAMPLE` pairs spread evenly, or with `every` all, for damage, sizes that differ and values without a meaning. What
    is wrong is among the problems, not raised; a spec that does not fit raises ValueError.
    """
    try:
        dataset = open_dataset(spec, root)
    except FileError as error:
        return Check(spec, "", 0, None, 0, (), (str(error),))
    if not isinstance(dataset, OnDisk):
        raise TypeError(f"`{spec}` should be a data set on disk; got {type(dataset).__name__}.")
    pairs, listing = dataset.listing.pairs, dataset.listing
    notes = [f"label maps hold {listing.codes.title}"]
    if listing.arrangement is not None:
        notes.insert(0, f"found in {listing.base}: {listing.arrangement}")
    problems = []
    if dataset.expected is not None and len(pairs) != dataset.expected:
        problems.append(
            f"{len(pairs)} images instead of the {dataset.expected} of the whole data set: numbers can't be compared "
            "with published ones"
        )
    problems += _missing([pair.mask for pair in pairs], "images without a label map", "the first should be")
    problems += _missing([pair.image for pair in pairs], "images of the list are not there", "the first should be")
    if listing.orphans:
        problems.append(f"{len(listing.orphans)} label maps have no image: {_first_few(listing.orphans)}")
    whole = [n for n, pair in enumerate(pairs) if os.path.isfile(pair.mask) and os.path.isfile(pair.image)]
    chosen = whole if every else _spread(whole, SAMPLE)
    content = Content()
    with progress_bar(f"check {spec}", len(chosen), shown=progress) as bar:
        for number in chosen:
            try:
                content.add(dataset.read(number), pairs[number].image)
            except FileError as error:
                problems.append(str(error))
            bar.update()
    notes.append(f"opened {len(chosen)} of {len(whole)} pairs")
    notes += content.notes(dataset)
    problems += content.problems(dataset, rule_said="exif" in parse_spec(spec)[1])
    return Check(spec, dataset.title, len(pairs), dataset.expected, len(chosen), tuple(notes), tuple(problems))


class Content:
    """What the opened pairs hold: labels that occur, and images that their EXIF turns."""

    def __init__(self) -> None:
        self.labels: set[int] = set()
        self.turned: list[str] = []
        self.opened = 0

    def add(self, sample: Sample, image: str) -> None:
        """Counts in a pair that was opened."""
        self.opened += 1
        self.labels |= set(np.unique(sample.labels).tolist())
        if orientation_of(image) != 1:
            self.turned.append(image)

    def notes(self, dataset: OnDisk) -> list[str]:
        """Which classes occur in no label map that was opened."""
        absent = [f"{number} ({name})" for number, name in enumerate(dataset.names) if number not in self.labels]
        if not absent or not self.opened:
            return []
        return [f"in none of the {self.opened} label maps opened: class {_first_few(absent)}"]

    def problems(self, dataset: OnDisk, *, rule_said: bool) -> list[str]:
        """Values that look like those of another rule, and turned images without a rule of the user's."""
        last, occurs = len(dataset.names) - 1, self.labels - {dataset.ignore}
        problems = []
        if occurs == {0} and dataset.ignore in self.labels and last >= 1:
            problems.append(
                f"all {self.opened} label maps opened hold class 0 and {dataset.ignore}, which is not scored, and "
                f"nothing else: of binary masks {dataset.ignore} is the foreground, which would never count. Say so "
                f"with values=0+{dataset.ignore}, or write {last} for it"
            )
        elif last >= 2 and dataset.exif != "fit" and occurs == set(range(1, last + 1)):
            problems.append(
                f"the label maps opened hold the classes 1…{last}, but nowhere class 0 ({dataset.names[0]}): if their "
                "values count from 1, say so with first=1, and check the class names"
            )
        if self.turned and not rule_said and dataset.exif != "fit":
            problems.append(
                f"{len(self.turned)} of the {self.opened} images opened are turned by their EXIF, and it is not said "
                f"whether their label maps are: exif=upright, or exif=stored if they belong to the pixels as they are "
                f"stored ({_first_few(self.turned)})"
            )
        return problems


def _missing(paths: Sequence[str], what: str, first: str) -> list[str]:
    gone = [path for path in paths if not os.path.isfile(path)]
    return [f"{len(gone)} {what}; {first} {_first_few(gone)}"] if gone else []


def _first_few(paths: Sequence[str]) -> str:
    more = len(paths) - NAMED
    return ", ".join(paths[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _spread(numbers: Sequence[int], count: int) -> list[int]:
    """At most `count` of the numbers, evenly spread, the first and the last among them."""
    if len(numbers) <= count:
        return list(numbers)
    return [numbers[place * (len(numbers) - 1) // (count - 1)] for place in range(count)]
