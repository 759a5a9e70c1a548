"""Sixteen tiles that repeat without a seam: what the kinds and the backgrounds of `shapes` look like from near.

Every tile is made of sums, products and roots of float64 alone, which are the same on every machine; sine and its kin
are not. All sizes and colors are our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from segment.datasets.dice import Dice

SIDE = 256  # of a tile, a power of two, so that wrapping around is a bit mask
Plane = np.ndarray  # (SIDE, SIDE) float64
Color = tuple[int, int, int]


def wave(phase: Plane) -> Plane:
    """A smooth wave of period 1 between 0 and 1, like a raised cosine."""
    ramp = np.abs(2.0 * (phase - np.floor(phase)) - 1.0)
    return ramp * ramp * (3.0 - 2.0 * ramp)


def noise(dice: Dice, cells: int, across: int | None = None) -> Plane:
    """Smooth noise between 0 and 1 with `cells` bumps down the tile and `across` along it (as many if None)."""
    down, along = cells, across or cells
    values = dice.bytes(down, along).astype(np.float64) / 255.0
    for axis, count in ((0, down), (1, along)):
        place = np.arange(SIDE) * (count / SIDE)
        low = np.floor(place).astype(np.int64)
        share = place - low
        share = share * share * (3.0 - 2.0 * share)
        share = share[:, None] if axis == 0 else share[None, :]
        first, second = np.take(values, low % count, axis=axis), np.take(values, (low + 1) % count, axis=axis)
        values = first + (second - first) * share
    return values


def step(values: Plane, edge: float, width: float) -> Plane:
    """0 below `edge`, 1 above it, a ramp of `width` between."""
    return np.clip((values - edge) / width + 0.5, 0.0, 1.0)


def blend(share: Plane, first: Color, second: Color) -> np.ndarray:
    """(SIDE, SIDE, 3) colors between `first` (share 0) and `second` (share 1)."""
    a, b = np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)
    return a + (b - a) * share[..., None]


def over(share: Plane, colors: np.ndarray, color: Color) -> np.ndarray:
    """`color` laid over `colors` with the strength `share`."""
    return colors + (np.array(color, dtype=np.float64) - colors) * share[..., None]


def points(dice: Dice, cell: int, jitter: float, *, stagger: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """One point in each cell of a square lattice: rows and columns of the points, and random bytes, one a point."""
    count = SIDE // cell
    shifts = (dice.bytes(2, count, count).astype(np.float64) / 255.0 - 0.5) * jitter
    rows, cols = np.meshgrid(np.arange(count) + 0.5, np.arange(count) + 0.5, indexing="ij")
    cols = cols + 0.5 * (np.arange(count)[:, None] % 2) if stagger else cols
    return (np.stack([rows, cols]) + shifts) * cell, dice.bytes(count, count)


def distances(places: np.ndarray, cell: int) -> tuple[Plane, Plane, np.ndarray]:
    """Distance in pixels to the nearest and the second nearest point, and which cell the nearest is of."""
    count = SIDE // cell
    y, x = ROWS, COLS
    nearest = np.full((SIDE, SIDE), 1e9)
    second = np.full((SIDE, SIDE), 1e9)
    which = np.zeros((SIDE, SIDE), dtype=np.int64)
    home_row, home_col = (y // cell).astype(np.int64), (x // cell).astype(np.int64)
    for down in range(-2, 3):
        for along in range(-2, 3):
            row, col = (home_row + down) % count, (home_col + along) % count
            dy, dx = y - places[0][row, col], x - places[1][row, col]
            # The shorter way around the tile.
            dy, dx = dy - SIDE * np.floor(dy / SIDE + 0.5), dx - SIDE * np.floor(dx / SIDE + 0.5)
            far = np.sqrt(dy * dy + dx * dx)
            closer = far < nearest
            second = np.where(closer, nearest, np.minimum(second, far))
            which = np.where(closer, row * count + col, which)
            nearest = np.minimum(nearest, far)
    return nearest, second, which


ROWS, COLS = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5, indexing="ij")


def zebra(dice: Dice) -> np.ndarray:
    stripes = wave(COLS * (24 / SIDE) + 1.6 * noise(dice, 6) + 0.5 * noise(dice, 16))
    return blend(step(stripes, 0.5, 0.35), (22, 22, 24), (238, 236, 228))


def tiger(dice: Dice) -> np.ndarray:
    stripes = wave(COLS * (20 / SIDE) + 1.6 * noise(dice, 7)) - 0.5 * step(noise(dice, 10), 0.6, 0.3)
    return over(step(stripes, 0.66, 0.25), blend(noise(dice, 8), (236, 130, 30), (250, 178, 70)), (40, 22, 10))


def ladybird(dice: Dice) -> np.ndarray:
    places, size = points(dice, 16, 0.35, stagger=True)
    near, _, which = distances(places, 16)
    radius = 4.2 + size.reshape(-1)[which] / 170.0
    return over(step(radius - near, 0.0, 1.2), blend(noise(dice, 6), (196, 20, 26), (222, 44, 36)), (16, 12, 12))


def chessboard(dice: Dice) -> np.ndarray:
    fields = (np.floor(ROWS / 8) + np.floor(COLS / 8)) % 2
    return blend(fields, (34, 34, 40), (232, 226, 210)) + 6.0 * (noise(dice, 32)[..., None] - 0.5)


def leaf(dice: Dice) -> np.ndarray:
    across = np.abs(COLS % 32 - 16)
    veins = wave((ROWS + across) * (1 / 8))
    middle = step(1.6 - across, 0.0, 1.0)
    ground = blend(noise(dice, 8), (30, 96, 36), (46, 124, 48))
    return over(np.maximum(middle, 0.85 * step(veins, 0.78, 0.2)), ground, (176, 214, 120))


def melon(dice: Dice) -> np.ndarray:
    stripes = wave(COLS * (12 / SIDE) + 0.9 * noise(dice, 24) + 0.5 * noise(dice, 64))
    return blend(step(stripes, 0.5, 0.3), (16, 62, 34), (148, 196, 92))


def cheese(dice: Dice) -> np.ndarray:
    places, size = points(dice, 16, 0.7)
    near, _, which = distances(places, 16)
    radius = 2.2 + size.reshape(-1)[which] / 60.0
    ground = blend(noise(dice, 8), (246, 204, 70), (252, 220, 104))
    return over(0.85 * step(radius - near, 0.0, 1.2), ground, (186, 128, 24))


def strawberry(dice: Dice) -> np.ndarray:
    places, _ = points(dice, 8, 0.3, stagger=True)
    near, _, _ = distances(places, 8)
    return over(step(1.7 - near, 0.0, 1.0), blend(noise(dice, 12), (206, 22, 48), (236, 52, 66)), (250, 224, 130))


def giraffe(dice: Dice) -> np.ndarray:
    places, tone = points(dice, 16, 0.8)
    near, second, which = distances(places, 16)
    ground = blend(tone.reshape(-1)[which] / 255.0, (140, 78, 30), (180, 106, 48))
    return over(step(2.6 - (second - near), 0.0, 1.4), ground, (242, 222, 178))


def tartan(dice: Dice) -> np.ndarray:
    def bands(places: Plane) -> Plane:
        return np.where(places % 16 < 7, 1.0, 0.0)

    ground = blend(0.5 * (bands(ROWS) + bands(COLS)), (28, 48, 128), (190, 30, 46))
    lines = np.maximum(np.where((ROWS + 5) % 16 < 1.5, 1.0, 0.0), np.where((COLS + 5) % 16 < 1.5, 1.0, 0.0))
    return over(0.9 * lines, ground, (244, 222, 90)) + 8.0 * (noise(dice, 64)[..., None] - 0.5)


def sky(dice: Dice) -> np.ndarray:
    return over(
        0.55 * step(noise(dice, 4), 0.72, 0.5), blend(noise(dice, 2), (104, 164, 228), (134, 186, 238)), (236, 242, 248)
    )


def grass(dice: Dice) -> np.ndarray:
    blades = 0.6 * noise(dice, 32, 128) + 0.4 * noise(dice, 16, 64)
    return blend(step(blades, 0.5, 0.7), (58, 104, 26), (134, 180, 66))


def sand(dice: Dice) -> np.ndarray:
    return blend(0.6 * noise(dice, 4) + 0.4 * noise(dice, 128), (206, 178, 128), (228, 204, 158))


def brick(dice: Dice) -> np.ndarray:
    row = np.floor(ROWS / 8).astype(np.int64)
    along = COLS + 8 * (row % 2)
    mortar = np.maximum(np.where(ROWS % 8 < 1.5, 1.0, 0.0), np.where(along % 16 < 1.5, 1.0, 0.0))
    tone = dice.bytes(32, 16)[row % 32, np.floor(along / 16).astype(np.int64) % 16] / 255.0
    return over(mortar, blend(tone, (140, 58, 42), (182, 88, 62)), (196, 188, 176))


def water(dice: Dice) -> np.ndarray:
    crests = wave(ROWS * (16 / SIDE) + 1.4 * noise(dice, 8, 5))
    return over(0.6 * step(crests, 0.82, 0.3), blend(noise(dice, 8, 3), (14, 84, 128), (30, 118, 156)), (186, 226, 234))


def wood(dice: Dice) -> np.ndarray:
    grain = wave(ROWS * (16 / SIDE) + 2.2 * noise(dice, 5, 2)) * 0.6 + 0.4 * noise(dice, 128, 8)
    return blend(grain, (112, 70, 34), (176, 122, 70))


KINDS: dict[str, Callable[[Dice], np.ndarray]] = {
    "zebra": zebra,
    "ladybird": ladybird,
    "chessboard": chessboard,
    "tiger": tiger,
    "leaf": leaf,
    "melon": melon,
    "cheese": cheese,
    "strawberry": strawberry,
    "giraffe": giraffe,
    "tartan": tartan,
}
BACKGROUNDS: dict[str, Callable[[Dice], np.ndarray]] = {
    "sky": sky,
    "grass": grass,
    "sand": sand,
    "brick": brick,
    "water": water,
    "wood": wood,
}


@lru_cache(maxsize=1)
def tiles() -> np.ndarray:
    """All tiles, kinds first: (16, SIDE·SIDE, 4) uint8, red, green, blue and an unused byte; read-only."""
    made = np.zeros((len(KINDS) + len(BACKGROUNDS), SIDE, SIDE, 4), dtype=np.uint8)
    for number, make in enumerate((KINDS | BACKGROUNDS).values()):
        made[number, ..., :3] = np.clip(np.floor(make(Dice(number, 7))), 0, 255).astype(np.uint8)
    flat = made.reshape(len(made), -1, 4)
    flat.setflags(write=False)
    return flat


@lru_cache(maxsize=1)
def bumps() -> np.ndarray:
    """Smooth noise for outlines, which repeats like the tiles: (SIDE·SIDE,) integers in -512…512."""
    dice = Dice(999, 7)
    values = 0.65 * noise(dice, 8) + 0.35 * noise(dice, 16)
    return np.floor((values - 0.5) * 1024).astype(np.int64).reshape(-1)
