"""GEM as printed: a second stream of generalized self-self attention beside the stock one, in the last blocks."""

from __future__ import annotations

from segment.encoders.dual_path import DualPath
from segment.method import Method
from segment.methods.gem import DEPARTURES, PAPER

METHOD = Method(
    encoder=DualPath(
        blocks=6, kernel="qq+kk+vv", combine="mean", unit=True, iterations=1, inverse_temperature="norms", early="stock"
    ),
    paper=PAPER,
    summary="second stream over the last 6 blocks: (qq + kk + vv) / 3 of refined unit vectors; stock attention before",
    positions="bicubic-antialiased",  # as released
    page="gem",
    departures=(
        *DEPARTURES,
        "The number of blocks, one iteration and the temperature's rule are those of the release.",
    ),
)
