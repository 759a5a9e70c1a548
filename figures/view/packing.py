"""Arrays as text inside a page: quantized where that is enough, compressed, and base64."""

from __future__ import annotations

import base64
import gzip
from typing import Literal, TypedDict

import numpy as np

STEPS = 255
# Levels between a row's smallest and largest value lie evenly, or as squares: denser near the smallest. Attention rows
# have a few large weights and many small ones, which even steps would make equal. Our choice.
Law = Literal["even", "square"]


class Packed(TypedDict):
    """An array on the page: numpy's name of its type in little-endian order, its shape, and its compressed bytes."""

    type: str
    shape: list[int]
    data: str


class PackedRows(TypedDict):
    """Rows on the page: `shape` of the values; the bytes are low (f4, one a row), high (f4), and codes (u1)."""

    law: Law
    shape: list[int]
    data: str


def pack(values: np.ndarray) -> Packed:
    """An array without loss: uint8, uint16 or float32 of any shape."""
    values = np.asarray(values)
    kinds = {"uint8": "u1", "uint16": "u2", "float32": "f4"}
    if values.dtype.name not in kinds:
        raise TypeError(f"`values` should be {', '.join(kinds)}; got {values.dtype}. Convert them: values.astype(…).")
    kind = kinds[values.dtype.name]
    return {"type": kind, "shape": list(values.shape), "data": _text(values.astype(f"<{kind}").tobytes())}


def unpack(packed: Packed) -> np.ndarray:
    """The array that `pack` was given."""
    return np.frombuffer(_bytes(packed["data"]), f"<{packed['type']}").reshape(packed["shape"])


def pack_rows(values: np.ndarray, law: Law) -> PackedRows:
    """Rows (…, n) in one byte a value, each row between its own smallest and largest value.

    Off by at most half a step: with `even` 1/510 of the row's range; with `square` 1/255 of it near the largest value,
    and less the smaller the value. Equal values come back as they are. ValueError for values that are no numbers.
    """
    rows = np.asarray(values, np.float32)
    if not np.isfinite(rows).all():
        raise ValueError("`values` should be finite numbers; some are NaN or infinite. Mask them before.")
    low, high = rows.min(-1, keepdims=True), rows.max(-1, keepdims=True)
    share = (rows - low) / np.where(high > low, high - low, 1)
    codes = np.rint((np.sqrt(share) if law == "square" else share) * STEPS).astype(np.uint8)
    content = low.astype("<f4").tobytes() + high.astype("<f4").tobytes() + codes.tobytes()
    return {"law": law, "shape": list(rows.shape), "data": _text(content)}


def unpack_rows(packed: PackedRows) -> np.ndarray:
    """What a page shows of the rows: float32, as `pack_rows` says."""
    shape = packed["shape"]
    count = int(np.prod(shape[:-1]))
    content = _bytes(packed["data"])
    low, high = np.frombuffer(content, "<f4", 2 * count).reshape(2, *shape[:-1], 1)
    share = np.frombuffer(content, "u1", offset=8 * count).reshape(shape).astype(np.float32) / STEPS
    return low + (high - low) * (share**2 if packed["law"] == "square" else share)


def _text(content: bytes) -> str:
    # Without a date, so that the same page has the same bytes.
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode("ascii")


def _bytes(text: str) -> bytes:
    return gzip.decompress(base64.b64decode(text))
