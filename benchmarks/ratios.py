"""Times of several ways to do a job, as ratios to the first of them, on real images.

Times are the median over rounds of each round's own ratio, with the order of the contestants turned from round to
round, so that a machine that speeds up or slows down on the way does not favor one of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

from diagnostics import Backbone
from diagnostics.images import normalize


def random_clip() -> Backbone:
    """CLIP ViT-B/16 with random weights: speed and memory do not depend on them."""
    import open_clip

    from diagnostics.backbones.openclip import clip_backbone

    torch.manual_seed(0)
    clip = open_clip.create_model("ViT-B-16", force_quick_gelu=True)
    return clip_backbone(
        clip, spec="ViT-B/16", mean=(0.5,) * 3, std=(0.5,) * 3, make_tokenizer=open_clip.SimpleTokenizer
    )


def crops(backbone: Backbone, batch: int, size: tuple[int, int]) -> Tensor:
    """Crops of scikit-learn's two photographs: noise would be an odd image to decompose."""
    photographs = [torch.tensor(image).permute(2, 0, 1) / 255 for image in load_sample_images().images]
    pieces = []
    for number in range(batch):
        photograph, step = photographs[number % 2], 10 * (number // 2)
        pieces.append(photograph[:, step : step + size[0], step : step + size[1]])
    return normalize(torch.stack(pieces), backbone.mean, backbone.std).to(backbone.device, backbone.dtype)


def ratios(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Name -> median over rounds of its time over the first contestant's, and median seconds."""
    times = timed(contestants, rounds)
    first = next(iter(times))
    return {name: (ratio(times, name, first), statistics.median(times[name])) for name in times}


def ratio(times: dict[str, list[float]], name: str, to: str) -> float:
    """Median over rounds of one contestant's time over another's."""
    return statistics.median(seconds / base for seconds, base in zip(times[name], times[to], strict=True))


def timed(
    contestants: dict[str, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Name -> seconds by the clock in each round, after one turn of each to warm up."""
    names = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in names}
    for function in contestants.values():
        function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            start = clock()
            contestants[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # a GPU works on after the call has come back
            times[name].append(clock() - start)
    return times
