"""Labels decoded in tiles, against those with everything in memory at once; and that nothing of that size is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diagnostics.layout import Padding
from segment.decoding.decode import UNSCORED, decode
from segment.decoding.merge import Merged, ScoreAccumulator
from segment.decoding.windows import Center, Slide
from segment.method import Decode

QUERIES, CLASSES = 11, 5
OWNERS = [0, 1, 4, 2, 2, 3, 0, 4, 1, 3, 2]  # out of order


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that an operation made."""

    bytes = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        if isinstance(made, Tensor):
            self.bytes = max(self.bytes, made.numel() * made.element_size())
        return made


def scores_of(windows, shown, size, *, seed: int, labels: bool = False) -> Merged:
    places = windows.places(shown, (32, 32))
    gathering = ScoreAccumulator(places, size)
    generator = torch.Generator().manual_seed(seed)
    for number in range(places.count):
        if labels:
            maps = torch.randint(0, CLASSES, (1, 8, 8), generator=generator)
        else:
            maps = 0.1 * torch.rand(QUERIES, 4, 4, generator=generator)
        gathering.add(number, maps, Padding(0, 0, 0, 0), by_class=labels)
    return gathering.merged(torch.arange(CLASSES) if labels else torch.tensor(OWNERS))


SETTINGS = [
    (Decode(scale=40.0), None),
    (Decode(scale=40.0, threshold=0.12), 0),
    (Decode(scale=40.0, smallest_area=0.16), None),
    (Decode(scale=40.0, threshold=0.12, smallest_area=0.14), 2),
]


@pytest.mark.parametrize("settings, background", SETTINGS)
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("tile_bytes", [3000, 20_000, 90_000])
def test_labels_in_tiles_are_those_of_the_whole_image_bit_for_bit(settings, background, labels, tile_bytes):
    for seed, (windows, shown, size) in enumerate(
        [
            (Slide(crop=32, stride=16), (48, 72), (61, 97)),
            (Slide(crop=32, stride=20), (70, 53), (40, 31)),
            (Center(size=30), (48, 64), (96, 128)),
        ]
    ):
        scores = scores_of(windows, shown, size, seed=seed, labels=labels)
        whole = decode(replace(scores, tile_bytes=10**9), settings, background=background)
        tiled = decode(replace(scores, tile_bytes=tile_bytes), settings, background=background)
        assert len(whole.labels.unique()) > 1
        assert torch.equal(tiled.labels, whole.labels)
        assert torch.allclose(tiled.confidence, whole.confidence, atol=1e-6)
        assert torch.equal(tiled.confidence[whole.labels == UNSCORED], whole.confidence[whole.labels == UNSCORED])


def test_scores_of_all_words_never_stand_in_memory_at_full_size():
    scores = scores_of(Slide(crop=32, stride=16), (48, 72), (240, 360), seed=0)
    with Largest() as largest:
        decode(replace(scores, tile_bytes=20_000), Decode(scale=40.0, threshold=0.12, smallest_area=0.2), background=0)
    assert largest.bytes == 8 * 240 * 360  # the labels
    assert largest.bytes < 4 * QUERIES * 240 * 360 / 2
