"""A data set of image and label files; which files, and what their values mean, is given by its settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import scipy.io

from diagnostics.images import as_image, open_image, read_file
from diagnostics.images.content import file_content
from diagnostics.images.label_maps import LabelError, read_labels
from segment.datasets.arrangement import Arrangement, Listing
from segment.datasets.base import Dataset, Sample


@final
@dataclass(frozen=True, kw_only=True)
class OnDisk(Dataset):
    """Images and label maps in files, decoded when they are asked for.

    `expected` is how many images the whole data set has, None where nobody knows; that fewer are there is no error
    here, but `segment.datasets.check` says so. `converted` is the arrangement that `segment.datasets.prepare` writes.
    An image whose EXIF turns it is taken as it is stored if only so its label map fits.
    """

    title: str
    names: tuple[str, ...]
    ignore: int | None
    background: int | None = None
    expected: int | None = None
    listing: Listing = field(repr=False)
    converted: Arrangement | None = field(default=None, repr=False)

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
        raw = _matlab(pair.mask, variable) if variable else read_labels(pair.mask)
        return self.listing.codes.decode(raw, pair.mask)

    def content(self, index: int) -> bytes:
        pair = self.listing.pairs[index]
        return file_content(pair.image) + file_content(pair.mask)

    def read(self, index: int) -> Sample:
        pair = self.listing.pairs[index]
        labels = self.labels(index)
        image = np.asarray(open_image(pair.image))
        if image.shape[:2] != labels.shape:
            # A copy of the file's pixels knows no EXIF, so it is not turned.
            stored = np.asarray(as_image(read_file(pair.image).copy()))
            if stored.shape[:2] != labels.shape:
                sizes = " but ".join(
                    f"{what} is {shape[1]}x{shape[0]}"
                    for what, shape in (("it", labels.shape), (f"its image {pair.image}", image.shape))
                )
                raise LabelError(
                    pair.mask,
                    f"does not fit its image: {sizes} (width x height)",
                    "Fetch both again, or leave the image out",
                )
            image = stored
        return Sample(image, labels, pair.name)


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
