"""Times of several ways to do a job, as ratios to the first of them, on real pictures.

Times are the median over rounds of each round's own ratio, with the order of the contestants turned from round to
round, so that a machine that speeds up or slows down on the way does not favour one of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from diagnostics import Backbone
from diagnostics.images import normalise


def crops(backbone: Backbone, batch: int, size: tuple[int, int]) -> Tensor:
    """Crops of scikit-learn's two photographs: noise would be an odd picture to decompose."""
    photographs = [torch.tensor(image).permute(2, 0, 1) / 255 for image in load_sample_images().images]
    pieces = []
    for number in range(batch):
        photograph, step = photographs[number % 2], 10 * (number // 2)
        pieces.append(photograph[:, step : step + size[0], step : step + size[1]])
    return normalise(torch.stack(pieces), backbone.mean, backbone.std).to(backbone.device)


def ratios(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Name -> median over rounds of its time over the first contestant's, and median seconds."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for function in contestants.values():
        function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            start = time.perf_counter()
            contestants[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU works on after the call has come back
            times[name].append(time.perf_counter() - start)
    first = times[names[0]]
    return {
        name: (
            statistics.median(own / base for own, base in zip(times[name], first, strict=True)),
            statistics.median(times[name]),
        )
        for name in names
    }
