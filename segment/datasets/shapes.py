"""`shapes`: scenes that are drawn on the fly, with an exact label map and a caption; a small world to test in.

One to three blobs, each with the look of one of ten kinds, lie over one or two of six backgrounds. Outlines say
nothing about the kind; the texture does, so that a class can be recognized from any part of an object. Objects hide one
another, are turned and of different size, light falls unevenly, and there is some noise. All sizes, chances and colors
are our choice.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segment.datasets.base import Dataset, Sample
from segment.datasets.dice import Dice
from segment.datasets.facts import DatasetFacts
from segment.datasets.textures import BACKGROUNDS, KINDS, SIDE, bumps, tiles

KIND_NAMES, BACKGROUND_NAMES = tuple(KINDS), tuple(BACKGROUNDS)
NAMES = KIND_NAMES + BACKGROUND_NAMES

# Keys of the streams of random numbers: validation scenes, training scenes and captions (3)
# never meet.
VALIDATION, TRAINING, CLOSE_UPS = 1, 2, 4
FIXED = 1 << 16  # integers stand for numbers with 16 binary places
ANGLES = 256
_TURNS = [
    (round(math.cos(math.tau * a / ANGLES) * FIXED), round(math.sin(math.tau * a / ANGLES) * FIXED))
    for a in range(ANGLES)
]
# Objects have about 20 to 36 pixels from the center to the rim; one in about 4,000 pixels of canvas, three at most in
# the scenes of 112 x 112.
RADII, AREA_OF_ONE = (22, 36), 4_000
# A class is named in the caption where at least so many of its pixels show.
VISIBLE = 160
NOISE = 10


class Scene(NamedTuple):
    """A drawn image, (h, w, 3) uint8; its labels, (h, w) uint8, places in NAMES; and the classes that show."""

    image: np.ndarray
    labels: np.ndarray
    kinds: tuple[str, ...]
    backgrounds: tuple[str, ...]


def caption(kinds: Sequence[str], backgrounds: Sequence[str]) -> str:
    """«a tiger and a zebra over wood», in the order of NAMES: the same classes give the same words."""
    things = [f"a {kind}" for kind in sorted(kinds, key=NAMES.index)]
    grounds = sorted(backgrounds, key=NAMES.index)
    return " over ".join(" and ".join(words) for words in (things, grounds) if words)


def draw(dice: Dice, *, height: int = 112, width: int = 112, close_ups: int = 0) -> Scene:
    """One scene; its content depends on the dice and the settings alone.

    `close_ups` of a hundred scenes are filled by one class from rim to rim.
    """
    y, x = np.mgrid[:height, :width]
    labels = np.empty((height, width), dtype=np.uint8)
    pixels = np.empty((height, width, 4), dtype=np.uint8)
    if dice.chance(close_ups):
        _paint_close_up(dice, y, x, labels, pixels)
    else:
        _paint_backgrounds(dice, y, x, labels, pixels)
        _paint_objects(dice, y, x, labels, pixels)
    image = _light(dice, y, x, pixels)
    shown = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(NAMES)) >= VISIBLE)
    names = [NAMES[number] for number in shown]
    return Scene(
        image,
        labels,
        tuple(name for name in names if name in KINDS),
        tuple(name for name in names if name in BACKGROUNDS),
    )


def _paint_close_up(dice: Dice, y: np.ndarray, x: np.ndarray, labels: np.ndarray, pixels: np.ndarray) -> None:
    number, angle, scale = dice.below(len(NAMES)), dice.below(ANGLES), dice.between(75, 130)
    angle = angle if number < len(KINDS) else dice.between(-10, 10)
    labels[:] = number
    pixels[:] = _look(dice, number, angle, scale, (dice.below(SIDE), dice.below(SIDE)), y, x)


def _paint_backgrounds(dice: Dice, y: np.ndarray, x: np.ndarray, labels: np.ndarray, pixels: np.ndarray) -> None:
    """One background, or in one of three scenes two, one above the other with a slanting border."""
    height, width = labels.shape
    two = dice.chance(33)
    first, second = dice.pick(len(BACKGROUNDS), 2)
    border = height * dice.between(30, 70) // 100
    slope = dice.between(-20, 20)
    below = (y - border) * 100 > (x - width // 2) * slope if two else np.zeros((height, width), dtype=bool)
    for number, place in ((first, ~below), (second, below)):
        # Backgrounds are tilted a little: horizons, bricks and waves lie flat.
        angle, scale = dice.between(-10, 10), dice.between(80, 130)
        shift = dice.below(SIDE), dice.below(SIDE)
        if place.any():
            labels[place] = len(KINDS) + number
            colors = _look(dice, len(KINDS) + number, angle, scale, shift, y[place], x[place])
            pixels[place] = colors


def _paint_objects(dice: Dice, y: np.ndarray, x: np.ndarray, labels: np.ndarray, pixels: np.ndarray) -> None:
    """Blobs one over the other, each of another kind while kinds last."""
    height, width = labels.shape
    usual = max(1, height * width // AREA_OF_ONE)
    number = dice.between(1, usual) if usual <= 3 else dice.between(usual // 2, usual)
    if height * width < AREA_OF_ONE:
        number = dice.below(3)  # a look at a part of a scene: an object or two, or the ground alone
    kinds = dice.pick(len(KINDS), min(number, len(KINDS)))
    kinds += [dice.below(len(KINDS)) for _ in range(number - len(kinds))]
    centers: list[tuple[int, int]] = []
    for kind in kinds:
        # Of some places the one farthest from the others, so that seldom an object vanishes behind another.
        places = [(dice.between(14, height - 14), dice.between(14, width - 14)) for _ in range(3)]
        center = max(places, key=lambda place: min([_apart(place, other) for other in centers], default=0))
        centers.append(center)
        radius = dice.between(*RADII)
        reach = radius * 2
        window = (
            slice(max(center[0] - reach, 0), center[0] + reach),
            slice(max(center[1] - reach, 0), center[1] + reach),
        )
        inside = _outline(dice, y[window] - center[0], x[window] - center[1], radius)
        angle, scale = dice.below(ANGLES), dice.between(75, 130)
        shift = dice.below(SIDE), dice.below(SIDE)
        labels[window][inside] = kind
        pixels[window][inside] = _look(dice, kind, angle, scale, shift, y[window][inside], x[window][inside])


def _apart(first: tuple[int, int], second: tuple[int, int]) -> int:
    return (first[0] - second[0]) ** 2 + (first[1] - second[1]) ** 2


def _outline(dice: Dice, y: np.ndarray, x: np.ndarray, radius: int) -> np.ndarray:
    """Where an object is: an ellipse, a box or a diamond, turned, and dented by smooth noise."""
    cosine, sine = _TURNS[dice.below(ANGLES)]
    along, across = cosine * x + sine * y, cosine * y - sine * x
    # In units of 1/1024 of the radius; the second axis is shorter.
    along = (along << 10) // (radius * FIXED)
    across = (across << 10) // (radius * FIXED) * 100 // dice.between(62, 100)
    form = dice.below(3)
    if form == 0:
        far = (along * along + across * across) >> 10
    elif form == 1:
        far = np.maximum(np.abs(along), np.abs(across)) * 5 // 4
    else:
        far = (np.abs(along) + np.abs(across)) * 4 // 5
    dents = bumps()[((y + dice.below(SIDE)) & (SIDE - 1)) * SIDE + ((x + dice.below(SIDE)) & (SIDE - 1))]
    return far + dents < 1024


def _look(
    dice: Dice, number: int, angle: int, scale: int, shift: tuple[int, int], y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Colors of a tile at some pixels: turned, scaled by `scale` percent, shifted, and of a slightly other tint."""
    cosine, sine = (part * 100 // scale for part in _TURNS[angle])
    row = ((cosine * y - sine * x) >> 16) + shift[0]
    col = ((sine * y + cosine * x) >> 16) + shift[1]
    colors = tiles()[number][((row & (SIDE - 1)) << 8) + (col & (SIDE - 1))]
    gains = np.array([dice.between(116, 138) for _ in range(3)] + [0], dtype=np.uint16)
    return np.minimum((colors * gains) >> 7, 255).astype(np.uint8)


def _light(dice: Dice, y: np.ndarray, x: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Brighter on one side, brighter or darker as a whole, and noise: (h, w, 4) uint8 -> (h, w, 3) uint8."""
    height, width = pixels.shape[:2]
    whole, down, along = dice.between(210, 290), dice.between(-40, 40), dice.between(-40, 40)
    gain = (whole + (down * (2 * y[:, :1] - height)) // height + (along * (2 * x[:1] - width)) // width).astype(
        np.int32
    )
    grain = (dice.bytes(height, width, 3).astype(np.int32) * (2 * NOISE + 1) >> 8) - NOISE
    return np.clip((pixels[..., :3] * gain[..., None] >> 8) + grain, 0, 255).astype(np.uint8)


@DatasetFacts(classes=len(NAMES), images=500, split="validation")
@dataclass(frozen=True, kw_only=True)
class Shapes(Dataset):
    """Drawn scenes with exact labels: ten kinds of objects and six backgrounds, all of them classes.

    The same settings give the same pixels on every machine. `seed` chooses the world's scenes; the validation scenes
    are those of seed 0. Scenes may be of any size; textures and objects keep theirs, so a larger canvas holds more.
    """

    scenes: int = 500
    height: int = 112
    width: int = 112
    seed: int = 0
    objects_only: bool = False

    names: tuple[str, ...] = field(init=False, default=NAMES)
    ignore: int | None = field(init=False, default=None)
    background: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 32 or self.scenes < 0 or not 0 <= self.seed < 2**31:
            raise ValueError(
                f"scenes of `shapes` should be at least 32x32 pixels, their number not negative, the seed in 0…2³¹-1; "
                f"got height={self.height}, width={self.width}, scenes={self.scenes}, seed={self.seed}."
            )
        if self.objects_only:
            object.__setattr__(self, "names", ("background", *KIND_NAMES))
            object.__setattr__(self, "background", 0)

    def __len__(self) -> int:
        return self.scenes

    def scene(self, index: int) -> Scene:
        """The scene behind a sample, with the classes for its caption; labels are places in NAMES here."""
        return draw(Dice(VALIDATION << 32 | self.seed, index), height=self.height, width=self.width)

    def sample_name(self, index: int) -> str:
        return f"shapes-{self.seed}-{index:06d}"

    def content(self, index: int) -> bytes:
        return f"{self} {index} {_drawn_by()}".encode()  # settings and code decide every pixel

    def read(self, index: int) -> Sample:
        scene = self.scene(index)
        labels = scene.labels
        if self.objects_only:
            labels = np.where(labels < len(KINDS), labels + 1, 0).astype(np.uint8)
        return Sample(scene.image, labels, self.sample_name(index))


@cache
def _drawn_by() -> str:
    """Tells versions of the code that draws apart, by its bytes."""
    files = (Path(__file__).with_name(name) for name in ("dice.py", "shapes.py", "textures.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


@DatasetFacts(classes=len(KIND_NAMES) + 1, images=500, split="validation")
def shapes_objects(*, scenes: int = 500, height: int = 112, width: int = 112, seed: int = 0) -> Shapes:
    """The scenes of `shapes` with the six backgrounds as one class «background», ahead of the ten kinds."""
    return Shapes(scenes=scenes, height=height, width=width, seed=seed, objects_only=True)


def close_up(index: int, *, seed: int = 0) -> Scene:
    """Image `index` of a stream filled by one class from rim to rim, for naming whole images."""
    return draw(Dice(CLOSE_UPS << 32 | seed, index), close_ups=100)


def training_scene(index: int, *, seed: int = 0, size: int = 112) -> Scene:
    """Scene `index` of an endless stream for training, (size, size), which shares none with the validation scenes.

    One in eight is a close-up, so that single words, too, have images: our choice.
    """
    return draw(Dice(TRAINING << 32 | seed, index), height=size, width=size, close_ups=12)


def training_scenes(*, seed: int = 0, start: int = 0) -> Iterator[Scene]:
    """The scenes `start`, `start` + 1, … of the stream, without end."""
    return (training_scene(index, seed=seed) for index in count(start))
