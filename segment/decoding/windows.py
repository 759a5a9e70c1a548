"""Windows over an image: the sliding grid of the field, the whole image, the middle of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from diagnostics.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from diagnostics.images import Size


class Span(NamedTuple):
    """Pixels `start` to `stop` - 1 along one side."""

    start: int
    stop: int


@dataclass(frozen=True)
class WindowGrid:
    """Where the windows of an image of `size` (height, width) lie: every span of `rows` with every one of `cols`.

    All windows of an image have one shape. They need not cover it.
    """

    size: tuple[int, int]
    rows: tuple[Span, ...]
    cols: tuple[Span, ...]

    @property
    def count(self) -> int:
        """How many windows there are."""
        return len(self.rows) * len(self.cols)

    @property
    def window(self) -> tuple[int, int]:
        """(height, width) of each window."""
        return self.rows[0].stop - self.rows[0].start, self.cols[0].stop - self.cols[0].start

    def cut(self, image: Tensor) -> Iterator[Tensor]:
        """The windows of an image (3, h, w), row by row: views (3, height, width)."""
        for top, bottom in self.rows:
            for left, right in self.cols:
                yield image[:, top:bottom, left:right]


class Windows(ABC):
    """Which parts of an image the network sees. A part derives from it as a frozen dataclass; settings are fields."""

    @abstractmethod
    def shown(self, native: tuple[int, int]) -> Size:
        """The size that images are brought to where none is asked for; `native` is the model's (height, width)."""

    @abstractmethod
    def places(self, size: tuple[int, int], native: tuple[int, int]) -> WindowGrid:
        """The windows of an image of (height, width)."""


# Source: the released configurations of the SCLIP line, short side 336 for windows of 224.
SHORT_TO_CROP = 1.5


def spans(length: int, crop: int, stride: int) -> tuple[Span, ...]:
    """Windows along one side: a stride apart, the last moved back so that it ends with the side.

    A side shorter than the crop is one shorter window. Source: wangf3014/SCLIP b56bd30 and all that follow it.
    """
    count = max(length - crop + stride - 1, 0) // stride + 1
    stops = [min(number * stride + crop, length) for number in range(count)]
    return tuple(Span(max(stop - crop, 0), stop) for stop in stops)


def _short_side(pixels: int) -> Size:
    from diagnostics.images import Size  # here, so that windows are listed without the image libraries

    return Size(short=pixels)


@dataclass(frozen=True, kw_only=True)
class Slide(Windows):
    """Square windows of `crop` pixels, `stride` apart; scores are averaged where they overlap.

    None: the crop is the model's own size, the stride half the crop (the released setting for 224, 112). Windows of a
    side that is shorter than the crop are not padded.
    """

    crop: int | None = None
    stride: int | None = None

    def __post_init__(self) -> None:
        for name in ("crop", "stride"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"`{name}` of windows `slide` should be at least 1 pixel, such as 224; got {value}.")
        if self.crop is not None and self.stride is not None and self.stride > self.crop:
            raise ValueError(
                f"`stride` of windows `slide` should be at most the crop {self.crop}, or pixels between windows are "
                f"never seen; got {self.stride}."
            )

    def _sides(self, native: tuple[int, int]) -> tuple[int, int, int, int]:
        """Crop of rows and of columns, stride of rows and of columns."""
        height, width = (self.crop, self.crop) if self.crop is not None else native
        down, along = (self.stride or max(1, side // 2) for side in (height, width))
        return height, width, min(down, height), min(along, width)

    def shown(self, native: tuple[int, int]) -> Size:
        return _short_side(int(SHORT_TO_CROP * min(self._sides(native)[:2])))

    def places(self, size: tuple[int, int], native: tuple[int, int]) -> WindowGrid:
        height, width, down, along = self._sides(native)
        return WindowGrid(size, spans(size[0], height, down), spans(size[1], width, along))


@dataclass(frozen=True, kw_only=True)
class Whole(Windows):
    """The whole image as one window, as NACLIP's released configurations for PASCAL VOC have it."""

    def shown(self, native: tuple[int, int]) -> Size:
        return _short_side(int(SHORT_TO_CROP * min(native)))

    def places(self, size: tuple[int, int], native: tuple[int, int]) -> WindowGrid:
        return WindowGrid(size, (Span(0, size[0]),), (Span(0, size[1]),))


@dataclass(frozen=True, kw_only=True)
class Center(Windows):
    """A square of `size` pixels from the middle, of an image with that short side; what lies outside is unscored.

    None: the model's own size. A side shorter than the square is taken whole. Source: leaves162/CLIPtrase 2b7de61.
    """

    size: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise ValueError(f"`size` of windows `center` should be at least 1 pixel, such as 336; got {self.size}.")

    def shown(self, native: tuple[int, int]) -> Size:
        return _short_side(self.size or min(native))

    def places(self, size: tuple[int, int], native: tuple[int, int]) -> WindowGrid:
        height, width = (self.size or whole for whole in native)
        return WindowGrid(size, (_middle(size[0], height),), (_middle(size[1], width),))


def _middle(length: int, side: int) -> Span:
    """The middle `side` pixels; of an odd margin the half is rounded to the even number, as torchvision's crop does."""
    start = max(0, round((length - side) / 2))
    return Span(start, min(start + side, length))


WINDOWS: Registry[type[Windows]] = Registry(
    "windows", {"slide": Slide, "whole": Whole, "center": Center}, group="windows", part=Windows
)
