"""Tiles: without a seam, each unlike the others, and the pieces that they are made of."""

from __future__ import annotations

import numpy as np

from segment.datasets.dice import Dice
from segment.datasets.textures import BACKGROUNDS, KINDS, SIDE, bumps, distances, noise, points, step, tiles, wave


def test_a_wave_is_one_at_whole_numbers_and_zero_between():
    assert wave(np.array([0.0, 0.5, 1.0, 0.25, -0.75])).tolist() == [1.0, 0.0, 1.0, 0.5, 0.5]


def test_a_step_is_a_ramp_around_its_edge():
    assert step(np.array([0.0, 0.4, 0.5, 0.6, 1.0]), 0.5, 0.4).round(9).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_noise_lies_between_its_bytes_and_goes_on_around_the_tile():
    values = noise(Dice(1), 8, 4)
    assert values.shape == (SIDE, SIDE)
    assert 0 <= values.min() < values.max() <= 1
    inside = np.abs(np.diff(values, axis=0)).max()
    assert np.abs(values[0] - values[-1]).max() <= inside
    assert np.array_equal(values[:: SIDE // 8, :: SIDE // 4], Dice(1).bytes(8, 4) / 255.0)


def test_distances_are_those_of_a_slow_search_around_the_tile():
    places, _ = points(Dice(2), 32, 0.8)
    near, second, which = distances(places, 32)
    flat = places.reshape(2, -1)
    for y, x in ((0, 0), (17, 200), (255, 255), (100, 31)):
        away = np.abs(np.array([[y + 0.5], [x + 0.5]]) - flat)
        far = np.sqrt((np.minimum(away, SIDE - away) ** 2).sum(axis=0))
        order = np.argsort(far)
        assert which[y, x] == order[0]
        np.testing.assert_allclose([near[y, x], second[y, x]], far[order[:2]])


def test_all_tiles_are_unlike_one_another_and_cannot_be_written_to():
    made = tiles()
    assert made.shape == (len(KINDS) + len(BACKGROUNDS), SIDE * SIDE, 4)
    assert len({tile.tobytes() for tile in made}) == len(made)
    assert not made.flags.writeable


def test_no_tile_has_a_seam():
    """The step from the last row to the first is no greater than steps between rows inside, and so for columns."""
    for tile in tiles()[..., :3].reshape(-1, SIDE, SIDE, 3).astype(int):
        for axis in (0, 1):
            inside = np.abs(np.diff(tile, axis=axis)).mean(axis=(1 - axis, 2))
            across = np.abs(np.take(tile, 0, axis) - np.take(tile, -1, axis)).mean()
            assert across <= inside.max() * 1.001


def test_bumps_are_dents_and_swellings_of_less_than_half():
    assert bumps().min() >= -512
    assert bumps().max() <= 512
    assert bumps().min() < 0 < bumps().max()
