"""Three figures look as they did: each is drawn from fixed arrays and held to a small hash of its image.

The hash is a difference hash: the image in gray, shrunk to 25 x 24 boxes, and for each two neighbors in a row one
bit, whether the left one is clearly lighter. Layout, colors and text all show in it. It is a few lines over Pillow,
which matplotlib brings along; a library of hashes would be one more thing to install for three numbers.

Fonts are those that come with matplotlib, the canvas is Agg, and the versions are pinned, so that a machine that
installs the same wheels gives the same bits. Up to 8 of 576 may differ, for other builds: with other hinting of
letters, or none, and without antialiasing, at most 4 do. That the tolerance hides no change is tested as well.

After a change that is meant, the failing test tells the new hash; look at the image before taking it over.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

from figures.look import style
from figures.maps.cell_grid import Cell, cell_grid
from figures.maps.layer_maps import maps_over_layers
from figures.tables.bar_panels import bar_panels

SIDE = 24
CLEARLY = 8  # gray levels; the fine edges of a letter have no lighter side
TOLERANCE = 8  # bits of 576

ROWS, COLS = 6, 8
RAMP = np.arange(ROWS * COLS, dtype=np.float64).reshape(ROWS, COLS)
MASK = np.isin(np.arange(ROWS * COLS).reshape(ROWS, COLS), (9, 10, 30))
IMAGE = np.stack(np.broadcast_arrays(*np.ogrid[0 : 255 : ROWS * 1j, 0 : 255 : COLS * 1j], 128.0), -1).astype(np.uint8)


def grid(value: float = 500.0, note: str = "What leaves the layer, mean over channels.") -> Figure:
    peak = RAMP.copy()
    peak[2, 3] = value
    above = [Cell(values=IMAGE, grid=(ROWS, COLS), marked=MASK, head="image"), Cell(values=RAMP, head="layer 3"),
             Cell(values=peak, head="layer 9", stars=[(4, 6)])]  # fmt: skip
    below = [None, Cell(values=RAMP[::-1], head="layer 3"), Cell(values=RAMP.T[:ROWS, :ROWS], head="layer 9")]
    return cell_grid({"as it is": above, "purified": below}, note=note, title="photo.jpg")


def bars(last: float = 37.5) -> Figure:
    kinds = ["q-k", "identity", "v-v", "k-k", "q-q"]
    table = pd.DataFrame({"as trained": [11, 28, 30, 29, 27.3], "w/o both": [27.6, 33, 34, 36, last]}, index=kinds)
    return bar_panels({"one": table, "another": table / 2}, xlabel="attention kind", ylabel="mIoU, per cent")


def maps(largest: float = 540.0) -> Figure:
    norms = np.broadcast_to(5 + 7 * RAMP % 31, (1, 4, ROWS, COLS)).copy()
    norms[0, 2:, 0, 0] = norms[0, 2:, 0, -1] = norms[0, 2:, -1, 0] = largest
    looks = norms / norms.sum(axis=(-2, -1), keepdims=True)
    dims, layers = ("image", "layer", "row", "col"), {"image": ["a.jpg"], "layer": [3, 6, 9, 12]}
    attention = {"units": "1", "long_name": "attention received"}
    dataset = xr.Dataset(
        {
            "norm": (dims, norms, {"units": "model units", "long_name": "norm of the patch"}),
            "received_attention": (dims, looks, attention),
        },
        coords=layers,
    )
    return maps_over_layers(dataset, pixels=IMAGE)


DRAWN = {"grid": grid, "bars": bars, "maps": maps}
HASHES = {
    "grid": (
        "000000c000000861000820800820800820a00820b0082080082080086080082000006100"
        "806180006180006180006184006184006104006004006184000184000184000000000000"
    ),
    "bars": (
        "80080080080000000000a0000aa0000aa0003aa00074a00074a00074a00074a00a74a0aa"
        "74a3aa74a74ad4a74ad4a74ad4a54ad4a54ad4a54a50a50a0c00c0000000004000004000"
    ),
    "maps": (
        "0000000000000000000a900089522a8d52288d44a88c62208e2a308e25308e5520895228"
        "8800200800020952280d46280c4ca00c6e200eae100e4530095728095228122010000000"
    ),
}


def difference_hash(figure: Figure) -> int:
    """576 bits of what the figure looks like, row by row."""
    with style():
        figure.set_dpi(100)
        figure.canvas.draw()
    drawn = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("L")
    boxes = np.asarray(drawn.resize((SIDE + 1, SIDE), Image.Resampling.BOX), dtype=int)
    bits = boxes[:, :-1] > boxes[:, 1:] + CLEARLY
    return int("".join("01"[bit] for bit in bits.ravel().tolist()), 2)


def distance(left: int, right: int) -> int:
    """How many bits differ."""
    return (left ^ right).bit_count()


@pytest.mark.parametrize("name", DRAWN)
def test_the_figure_looks_as_it_did(name):
    hashed = difference_hash(DRAWN[name]())
    assert distance(hashed, int(HASHES[name], 16)) <= TOLERANCE, f"its hash is now {hashed:0144x}"


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("grid", {"value": 40.0}),
        ("grid", {"note": ""}),
        ("bars", {"last": 20.0}),
        ("maps", {"largest": 40.0}),
    ],
)
def test_a_figure_of_other_data_does_not_pass_for_the_same(name, changed):
    assert distance(difference_hash(DRAWN[name](**changed)), difference_hash(DRAWN[name]())) > TOLERANCE
