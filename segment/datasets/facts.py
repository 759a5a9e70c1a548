"""What a data set declares of itself: how many classes and images it has, and how it lies on disk, in miniature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T", bound=Callable[..., Any])


class Miniature:
    """Writes a few small images and label maps below `root`, as a data set lies on disk.

    `raw` keeps what was written into each label map, (6, 8) integers, by the name of its sample.
    """

    size = (6, 8)  # height and width in pixels; our choice: not square, and room for 48 values

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw: dict[str, np.ndarray] = {}
        self._random = np.random.default_rng(0)

    def _place(self, place: str) -> Path:
        path = self.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def image(self, place: str) -> Path:
        """Random pixels at `place`, a path below the root."""
        from PIL import Image

        path = self._place(place)
        Image.fromarray(self._random.integers(0, 256, (*self.size, 3), dtype=np.uint8)).save(path)
        return path

    def mask(self, place: str, name: str, values: set[int], *, variable: str = "") -> Path:
        """The label map of the sample `name`: each of `values` occurs in it, at random places."""
        raw = self._random.permutation(np.resize(sorted(values), self.size[0] * self.size[1])).reshape(self.size)
        self.raw[name] = raw
        return self.write_mask(place, raw, variable=variable)

    def write_mask(self, place: str, raw: np.ndarray, *, variable: str = "") -> Path:
        """A label map (h, w): .tif and values above 255 with 16 bits, .mat as its array `variable`."""
        from PIL import Image

        path = self._place(place)
        if variable:
            import scipy.io

            scipy.io.savemat(path, {variable: raw.astype(np.uint16), "captions": "none"})
        else:
            wide = path.suffix == ".tif" or raw.max() > 255
            Image.fromarray(raw.astype(np.uint16 if wide else np.uint8)).save(path)
        return path

    def lines(self, place: str, lines: Sequence[str]) -> Path:
        """A text file with these lines."""
        path = self._place(place)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """A decorator by which a data set declares its counts and, where it lies on disk, its layout.

    Both counts are those with the default settings. Tests read the data set back from the miniature and compare.

    Parameters
    ----------
    classes : int or None
        How many classes, the background included; None where the user's file says it.
    images : int or None
        How many images the split has that is scored; None where nobody knows.
    split : str
        The split's name, such as `val`.
    usual : (int, int), or None
        Width and height in pixels that most of its images have, or their mean, where no image is at hand: to guess the
        time of a run. None where nothing is known.
    miniature : function of a Miniature, or None
        Writes at least two small images with their label maps in the real layout; None for a drawn data set.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> ao.DATASETS["camvid"].declared.images
    233
    """

    classes: int | None
    images: int | None
    split: str = ""
    usual: tuple[int, int] | None = None
    miniature: Callable[[Miniature], None] | None = None

    def __call__(self, builder: T) -> T:
        """The data set's function or class, with these facts as its attribute `declared`."""
        builder.declared = self  # type: ignore[attr-defined]
        return builder
