"""Label maps converted once and kept, in the form that the field's other programs read as well."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diagnostics.below import below
from diagnostics.images import FileError
from diagnostics.images.content import file_content, joined
from diagnostics.images.feed import progress_bar
from diagnostics.local_path import local_path
from diagnostics.studies.store import named_disk_errors
from segment.datasets import open_dataset
from segment.datasets.arrangement import Arrangement, DatasetError
from segment.datasets.on_disk import OnDisk
from segment.decoding.label_files import described_as, write_label_map


@dataclass(frozen=True)
class Prepared:
    """What was done: label maps written now, those that were there, and those that can't be converted, by name."""

    out: Path
    written: int
    existing: int
    left_out: dict[str, str]
    expected: int | None

    @property
    def count(self) -> int:
        """Converted label maps that lie there now."""
        return self.written + self.existing


def prepare(spec: str, root: str | Path, out: str | Path, *, progress: bool = False) -> Prepared:
    """Writes the converted label maps of `spec` (coco-object, coco-stuff, cityscapes, context60) below `out`.

    `out` is afterwards a root of its own: images are linked, not copied, and the list of ids comes along. It may be
    `root` itself. Each file appears only when it is whole, and files that are there stay unless they were made of
    other label maps, so an interrupted run resumes; at the end the files are counted. Values are the labels of the
    data set, 255 where nothing is scored.
    ValueError for a data set without a converted form; DatasetError where `root` holds that form already, or does not
    hold the data set.
    """
    dataset = open_dataset(spec, root)
    if not isinstance(dataset, OnDisk) or dataset.converted is None:
        raise ValueError(
            f"`{spec}` needs no preparation: its label maps are read as they are. coco-object, coco-stuff, cityscapes "
            "and context60 have a converted form."
        )
    target, listing, folder = dataset.converted, dataset.listing, local_path(out)
    if listing.arrangement is not None and listing.arrangement.same_masks(target):
        if folder.resolve() == listing.base.resolve():
            return Prepared(folder, 0, listing.complete, {}, dataset.expected)
        raise DatasetError(
            listing.base, "holds the converted label maps already", "Use it as the root; nothing is to be done"
        )
    _link_images(dataset, target, folder)
    written, existing, left_out = 0, 0, {}
    with progress_bar(f"prepare {spec}", len(dataset), shown=progress) as bar:
        for number, pair in enumerate(listing.pairs):
            path = below(folder, f"{target.masks}/{pair.name}{target.mask_suffix}")
            about = f"{dataset.title}; made of {joined([file_content(pair.mask), repr(listing.codes).encode()])}"
            if described_as(path) == about:
                existing += 1
            else:
                try:
                    labels = dataset.labels(number).astype(np.int32)
                    if dataset.ignore is not None:
                        labels[labels == dataset.ignore] = -1
                    write_label_map(path, labels, dataset.names, background=dataset.background, about=about)
                    written += 1
                except FileError as error:
                    left_out[pair.name] = str(error)
            bar.update()
    return Prepared(folder, written, existing, left_out, dataset.expected)


def _link_images(dataset: OnDisk, target: Arrangement, folder: Path) -> None:
    """A link to the images and a copy of the list of ids, where `folder` has none."""
    listing = dataset.listing
    source = listing.base / (listing.arrangement.images if listing.arrangement else "")
    link = folder / target.images
    with named_disk_errors(str(folder)):
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            try:
                link.symlink_to(os.path.realpath(source), target_is_directory=True)
            except OSError as error:
                raise DatasetError(
                    link,
                    f"can't be made a link to the images ({error.strerror})",
                    "Take the root itself as --out, or a disk that has links",
                ) from error
        for name in target.lists:
            if (listing.base / name).is_file() and not (folder / name).exists():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(listing.base / name, folder / name)
