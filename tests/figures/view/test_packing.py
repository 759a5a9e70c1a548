"""Arrays go into the page and come back: exactly, or within half a step."""

from __future__ import annotations

import base64
import gzip

import numpy as np
import pytest

from figures.view.packing import pack, pack_rows, unpack, unpack_rows


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_arrays_come_back_bit_for_bit(kind):
    values = (np.random.default_rng(0).normal(size=(2, 3, 5)) * 100).astype(kind)
    back = unpack(pack(values))
    assert back.dtype == values.dtype
    assert np.array_equal(back, values)


def test_infinity_comes_back():
    assert np.array_equal(unpack(pack(np.array([np.inf, -1], np.float32))), [np.inf, -1])


def test_other_types_are_refused_by_name():
    with pytest.raises(TypeError, match="float64"):
        pack(np.zeros(3))


@pytest.mark.parametrize("law", ["even", "square"])
def test_ends_of_a_row_and_rows_of_one_value_come_back_exactly(law):
    rows = np.array([[0.125, 0.5, 0.25], [0.3, 0.3, 0.3], [-1, 1, 0]], np.float32)
    back = unpack_rows(pack_rows(rows, law))
    assert np.array_equal(back[1], rows[1])
    assert np.array_equal(back.min(-1), rows.min(-1))
    assert np.array_equal(back.max(-1), rows.max(-1))


def test_even_steps_are_off_by_at_most_half_a_step():
    rows = np.random.default_rng(0).uniform(-1, 1, (4, 6, 50)).astype(np.float32)
    off = np.abs(unpack_rows(pack_rows(rows, "even")) - rows)
    assert (off <= np.ptp(rows, axis=-1, keepdims=True) / 510 + 1e-6).all()
    assert off.max() > 1e-4


def test_square_steps_keep_small_weights_beside_a_large_one():
    rows = np.random.default_rng(0).exponential(0.003, (5, 200)).astype(np.float32)
    rows[:, 0] = 0.5
    square = np.abs(unpack_rows(pack_rows(rows, "square")) - rows)
    share = (rows - rows.min(-1, keepdims=True)) / np.ptp(rows, axis=-1, keepdims=True)
    # Half a step in the square root: |Δ| = (2 s ε + ε²) · range with ε = 1/510.
    bound = (2 * np.sqrt(share) / 510 + 1 / 510**2) * np.ptp(rows, axis=-1, keepdims=True)
    assert (square <= bound + 1e-7).all()
    even = np.abs(unpack_rows(pack_rows(rows, "even")) - rows)
    assert square.mean() < even.mean() / 2


def test_a_row_worked_out_by_hand():
    packed = pack_rows(np.array([[0.0, 0.25, 1.0]], np.float32), "square")
    content = gzip.decompress(base64.b64decode(packed["data"]))
    assert content == np.array([0, 1], "<f4").tobytes() + bytes([0, 128, 255])  # √0.25 · 255 = 127.5, to even
    assert unpack_rows(packed)[0, 1] == pytest.approx((128 / 255) ** 2)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="finite"):
        pack_rows(np.array([[0, np.nan]]), "even")


def test_the_same_array_gives_the_same_text():
    values = np.arange(100, dtype=np.float32)
    assert pack(values) == pack(values)
