"""A color for every class, the same in label files and in figures."""

from __future__ import annotations

import numpy as np


def class_colors(count: int, *, background: int | None = None) -> np.ndarray:
    """One color a class: uint8 (count, 3). The background class is black; past 255 classes colors come again.

    The colors are those of PASCAL VOC's label maps: the bits of the number, spread over the three channels from the
    highest bit down. Number 0, black, is for the background alone.
    """
    numbers = np.arange(count)
    order = numbers % 255 + 1
    if background is not None:
        order = np.where(numbers < background, numbers, numbers - 1) % 255 + 1
        order[background] = 0
    return _voc_colors(order)


def _voc_colors(numbers: np.ndarray) -> np.ndarray:
    colors = np.zeros((len(numbers), 3), np.uint8)
    rest = numbers.copy()
    for bit in range(7, -1, -1):
        for channel in range(3):
            colors[:, channel] |= (((rest >> channel) & 1) << bit).astype(np.uint8)
        rest >>= 3
    return colors
