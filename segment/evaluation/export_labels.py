"""Predicted label maps in the data set's own encoding, as servers for test sets take them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from segment.datasets.base import Dataset
from segment.datasets.on_disk import OnDisk
from segment.decoding.label_files import UNSCORED_8, UNSCORED_16

# Ids of the 19 classes in the files that the server takes. Source: mcordts/cityscapesScripts, helpers/labels.py.
CITYSCAPES = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)


def own_codes(name: str, dataset: Dataset) -> np.ndarray:
    """The value of each class in the data set's files: (C,) int64.

    That of the label maps that were read, the lowest where several values mean one class; the class's number where
    there are no files. Cityscapes: the ids that its server asks for, whichever label maps were read.
    """
    if name == "cityscapes" and len(dataset.names) == len(CITYSCAPES):
        return np.array(CITYSCAPES)
    codes = np.arange(len(dataset.names))
    if isinstance(dataset, OnDisk):
        known: dict[int, int] = {}
        for value, label in sorted(dataset.listing.codes.labels.items()):
            known.setdefault(label, value)
        codes = np.array([known.get(number, number) for number in range(len(dataset.names))])
    return codes


def encoded_labels(labels: np.ndarray, name: str, dataset: Dataset) -> np.ndarray:
    """Labels (h, w), -1 where none was given -> values as in the data set's files: uint8, or uint16 if need be."""
    codes = own_codes(name, dataset)
    small = codes.max() < UNSCORED_8
    values = np.append(codes, UNSCORED_8 if small else UNSCORED_16)[labels]  # -1 is the last
    return values.astype(np.uint8 if small else np.uint16)


def label_png(values: np.ndarray) -> bytes:
    """A gray PNG of 8 or 16 bits whose gray values are the values."""
    file = io.BytesIO()
    Image.fromarray(values).save(file, format="PNG")
    return file.getvalue()
