"""A data set of image and label files; which files, and what their values mean, is given by its settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

import numpy as np
import scipy.io

from diagnostics.images import as_image, open_image, read_file
from diagnostics.images.content import file_content
from diagnostics.images.label_maps import LabelError, read_labels
from diagnostics.images.label_palette import Palette
from segment.datasets.arrangement import Arrangement, Listing
from segment.datasets.base import Dataset, Sample


@final
@dataclass(frozen=True, kw_only=True)
class OnDisk(Dataset):
    """Images and label maps in files, decoded when they are asked for.

    `expected` is how many images the whole data set has, None where nobody knows; that fewer are there is no error
    here, but `segment.datasets.check` says so. `converted` is the arrangement that `segment.datasets.prepare` writes.
    `exif` is the one rule for images whose EXIF turns them: label maps belong to the `upright` image, or to the pixels
    as they are `stored`; `fit`, for published sets, whose makers did not say: upright, but as stored where only so the
    label map fits. `palette` says what colors mean where label maps hold colors.
    """

    title: str
    names: tuple[str, ...]
    ignore: int | None
    background: int | None = None
    expected: int | None = None
    listing: Listing = field(repr=False)
    converted: Arrangement | None = field(default=None, repr=False)
    exif: Literal["upright", "stored", "fit"] = "fit"
    palette: Palette | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.listing.pairs)

    def sample_name(self, index: int) -> str:
        return self.listing.pairs[index].name

    def labels(self, index: int) -> np.ndarray:
        """The labels alone, (h, w), without opening the image.

        LabelError for a map that is missing or damaged, and for values that the data set does not have.
        """
        pair = self.listing.pairs[index]
        if not Path(pair.mask).is_file():
            raise LabelError(
                pair.mask,
                f"is missing: the image {pair.image} has no label map",
                "Fetch the annotations again, or leave the image out; `outliers datasets check` lists all such",
            )
        variable = self.listing.variable
        raw = _matlab(pair.mask, variable) if variable else read_labels(pair.mask, palette=self.palette)
        return self.listing.codes.decode(raw, pair.mask)

    def content(self, index: int) -> bytes:
        pair = self.listing.pairs[index]
        rules = f"{self.exif} {self.palette} {self.listing.codes}".encode()
        return file_content(pair.image) + file_content(pair.mask) + rules

    def _image(self, path: str, shape: tuple[int, ...]) -> np.ndarray:
        """The image as the rule for EXIF has it; `shape` is that of its label map."""
        if self.exif == "stored":
            return _stored(path)
        image = np.asarray(open_image(path))
        if self.exif == "fit" and image.shape[:2] != shape:
            stored = _stored(path)
            return stored if stored.shape[:2] == shape else image
        return image

    def read(self, index: int) -> Sample:
        pair = self.listing.pairs[index]
        labels = self.labels(index)
        image = self._image(pair.image, labels.shape)
        if image.shape[:2] != labels.shape:
            sizes = " but ".join(
                f"{what} is {shape[1]}x{shape[0]}"
                for what, shape in (("it", labels.shape), (f"its image {pair.image}", image.shape))
            )
            advice = "Fetch both again, or leave the image out"
            if image.shape[:2] == labels.shape[::-1] and self.exif == "upright":
                advice = "If label maps belong to images as stored, not as EXIF turns them, say so: exif=stored"
            raise LabelError(pair.mask, f"does not fit its image: {sizes} (width x height)", advice)
        return Sample(image, labels, pair.name)


def _stored(path: str) -> np.ndarray:
    """The image as its pixels are stored: a copy of them knows no EXIF, so it is not turned."""
    return np.asarray(as_image(read_file(path).copy()))


def _matlab(path: str, variable: str) -> np.ndarray:
    """A label array (h, w) from a .mat file."""
    try:
        content = scipy.io.loadmat(path, variable_names=[variable])
    except Exception as error:  # scipy raises whatever damaged bytes lead it to
        reason = f"is no MATLAB file that can be read ({type(error).__name__}: {error})".replace("\n", " ")
        raise LabelError(path, reason, "Fetch it again, or leave the image out") from error
    array = content.get(variable)
    if not isinstance(array, np.ndarray) or array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "iuf":
        raise LabelError(
            path, f"has no label array `{variable}` (h, w)", "Check that it is a label map of this data set"
        )
    return array.astype(np.int64)
