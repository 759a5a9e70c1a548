"""Random integers: fixed for ever, within their bounds, evenly spread."""

from __future__ import annotations

import numpy as np
import pytest

from segment.datasets.dice import Dice


def test_words_are_those_of_the_bit_generator_from_the_end_of_each_block():
    words = np.random.Philox(key=np.array([5, 6], dtype=np.uint64)).random_raw(64)
    dice = Dice(5, 6)
    assert [dice.below(1000) for _ in range(3)] == [int(word) % 1000 for word in words[:-4:-1]]


def test_one_key_gives_one_stream_and_another_key_another():
    streams = [[dice.below(2**32) for _ in range(100)] for dice in (Dice(1, 2), Dice(1, 2), Dice(1, 3), Dice(2, 2))]
    assert streams[0] == streams[1]
    assert len({tuple(stream) for stream in streams}) == 3


def test_numbers_keep_their_bounds_and_reach_them():
    dice = Dice(3)
    assert {dice.between(-2, 2) for _ in range(200)} == {-2, -1, 0, 1, 2}
    assert {dice.below(3) for _ in range(100)} == {0, 1, 2}
    assert not any(dice.chance(0) for _ in range(50))
    assert all(dice.chance(100) for _ in range(50))
    assert 2300 < sum(dice.chance(25) for _ in range(10_000)) < 2700


def test_a_pick_has_no_repeats():
    dice = Dice(4)
    assert sorted(dice.pick(6, 6)) == list(range(6))
    assert len(set(dice.pick(100, 50))) == 50


def test_bytes_are_those_of_the_words_lowest_first():
    word = int(np.random.Philox(key=np.array([7, 0], dtype=np.uint64)).random_raw(1)[0])
    assert Dice(7).bytes(2, 4).ravel().tolist() == list(word.to_bytes(8, "little"))
    assert Dice(7).bytes(3).shape == (3,)


@pytest.mark.parametrize("key", [(), (1, 2, 3), (-1,)])
def test_keys_that_are_none_are_refused(key):
    with pytest.raises(ValueError, match="key"):
        Dice(*key)
