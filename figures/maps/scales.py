"""When a scale is logarithmic, and the range of colors."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm, Normalize

# A range wider than this is drawn on a log scale. Our choice.
LOG_SPAN = 30.0
# Share of the values, in per cent, that may lie below a logarithmic color scale, so that one attention weight that
# is nearly 0 does not use up the colors. Our choice.
BELOW_SCALE = 1.0
# The widest range of a logarithmic color scale: weights below a ten-thousandth of the largest are all next to nothing,
# and would take the colors from the rest. Our choice.
MOST_SPAN = 1e4


def wants_log(values: np.ndarray, log: bool | None = None) -> bool:
    """Whether values call for a log scale: all positive, and the largest more than 30 times the smallest.

    Shares, at most 1, that vanish call for none: how nearly nothing they are would fill the axis. `log` True or False
    decides it; True where no value is positive raises ValueError.
    """
    finite = values[np.isfinite(values)]
    if log and finite.size and not (finite > 0).any():
        raise ValueError(f"`log` should be False or None where no value is positive; the largest is {finite.max():g}.")
    if log is not None:
        return log
    if not finite.size or finite.min() <= 0 or finite.max() <= LOG_SPAN * finite.min():
        return False
    return bool(finite.max() > 1 or finite.max() <= MOST_SPAN * finite.min())


def color_scale(values: np.ndarray, log: bool | None = None) -> Normalize:
    """The color scale that holds all the values: LogNorm for a wide range of positive ones, else linear.

    Zeros do not stand against a log scale: they and the lowest per cent of the rest take its lowest color, and so does
    all that is more than ten thousand times smaller than the largest value.
    """
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Normalize(0, 1)
    positive = finite[finite > 0]
    if log is not False and positive.size and (log or finite.min() >= 0):
        high = float(positive.max())
        low = max(float(np.percentile(positive, BELOW_SCALE)), high / MOST_SPAN)
        if high > low and (log or high > LOG_SPAN * low):
            return LogNorm(low, high)
    low, high = float(finite.min()), float(finite.max())
    if high == low:
        low, high = low - 0.5, high + 0.5
    return Normalize(low, high)


def bar_ticks(scale: Normalize) -> list[float]:
    """Three ticks of a color bar: its ends and the value of the middle color."""
    return [float(scale.inverse(share)) for share in (0.0, 0.5, 1.0)]
