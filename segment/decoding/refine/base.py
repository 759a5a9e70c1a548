"""What a refiner is: it looks at the image again, and purifies scores before they are decoded, or labels after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from segment.decoding.merge import ScoreMaps
from segment.method import TextFeatures


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """The image as a refiner sees it.

    `image`: upright 8-bit RGB in its own size; `shown_by` makes `shown`; `name` in the run; `path` of its file, or
    None; `text`: the words that were scored, or None.
    """

    image: Image.Image
    shown_by: Callable[[], Tensor]
    name: str
    path: Path | None = None
    text: TextFeatures | None = None

    @property
    def shown(self) -> Tensor:
        """What the windows were cut from, normalized, on the device of the scores: (3, h, w). Made when it is asked."""
        return self.shown_by()


class Refiner:
    """Purifies what a method found, by the image's own pixels. A part derives from it as a frozen dataclass.

    Either step may be left as it is. Nothing is changed in place.
    """

    def scores(self, scores: ScoreMaps, canvas: Canvas) -> ScoreMaps:
        """Scores in the image's own size, before scale and softmax."""
        return scores

    def content(self, image: Path) -> bytes:
        """What it reads besides the image, by its bytes: results of other contents are others. Nothing for most."""
        return b""

    def check(self, images: Sequence[Path]) -> None:
        """Refuses the images of a run where two would get what belongs to one."""

    def labels(self, labels: Tensor, canvas: Canvas) -> Tensor:
        """Labels (H, W) in the image's own size; unscored pixels keep their label."""
        return labels


@dataclass(frozen=True, kw_only=True)
class NoRefiner(Refiner):
    """Leaves scores and labels as they are."""
