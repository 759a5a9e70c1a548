"""Outliers planted at known places, so that detectors can be judged against the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.edits.base import Edit
from diagnostics.layout import Layout
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.taps import Recorder


@dataclass(frozen=True, kw_only=True)
class Plant(Edit):
    """Adds an outlier's vector to `count` random patches of each image after a block; later blocks react to them.

    `vector` (D) is what is added, from `outlier_vector` or `channel_vector`. `clustered` puts them side by side.
    Places depend on `seed` and the image's number alone: `images` are the numbers of the images in the batch,
    0, 1, 2… by default. `places` holds afterwards where they are. Source: ours.
    """

    vector: tuple[float, ...]
    layers: tuple[int, ...] | None = (-1,)
    count: int = 4
    clustered: bool = False
    seed: int = 0
    images: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"`count` should be 0 or more outliers an image; got {self.count}.")

    def wants(self, name: str, layer: int) -> bool:
        return name == "block_out" and self.active(layer)

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        layout = self.layout
        if len(self.vector) != value.shape[-1]:
            raise ValueError(f"`vector` should have D={value.shape[-1]} numbers; got {len(self.vector)}.")
        if "places" not in self.memory:
            numbers = self.images or range(len(value))
            if len(numbers) != len(value):
                raise ValueError(f"`images` should number the {len(value)} images of the batch; got {len(numbers)}.")
            masks = [planted_places(layout, self.count, clustered=self.clustered, seed=(self.seed, n)) for n in numbers]
            self.memory["places"] = torch.stack(masks).to(value.device)
        added = self.memory["places"][..., None] * value.new_tensor(self.vector)
        return layout.with_patches(value, layout.patches(value) + added)

    @property
    def places(self) -> Tensor:
        """Where outliers were planted in the last pass: (B, N) bool."""
        if "places" not in self.memory:
            raise ValueError("nothing is planted yet; run a forward pass with this edit as tap first.")
        places: Tensor = self.memory["places"]
        return places


def planted_places(layout: Layout, count: int, *, clustered: bool, seed: tuple[int, int]) -> Tensor:
    """Random places for outliers: (N) bool with `count` True, the same for the same seed on every machine.

    Scattered: any patches. Clustered: the patches nearest to a random one, itself included.
    """
    if count > layout.count:
        raise ValueError(f"`count` should be at most N={layout.count} patches; got {count}.")
    generator = torch.Generator().manual_seed(seed[0] * 1_000_003 + seed[1])
    order = torch.randperm(layout.count, generator=generator)
    if clustered:
        cols = layout.grid.cols
        rows_away = torch.arange(layout.count) // cols - order[0] // cols
        cols_away = torch.arange(layout.count) % cols - order[0] % cols
        # Of patches equally far away the random order decides, so that clusters are not all of one shape.
        order = order[(rows_away**2 + cols_away**2)[order].argsort(stable=True)]
    mask = torch.zeros(layout.count, dtype=torch.bool)
    mask[order[:count]] = True
    return mask


def outlier_vector(backbone: Backbone, images: Tensor, layer: int, *, ratio: float = 3.0) -> tuple[float, ...]:
    """What makes an outlier of this model: mean outlier minus mean other patch after a block, (D) numbers.

    Outliers are patches whose norm is above `ratio` times the image's median (our choice). ValueError where these
    images have none.
    """
    recorder = Recorder("block_out", layers=[layer])
    with torch.no_grad():
        backbone.trunk(images, stop=layer, tap=recorder)
    patches = backbone.layout(images).patches(recorder["block_out"]).float()
    norms = token_norms(patches)
    mask = norms > ratio * median_norm(norms)[:, None]
    if not mask.any():
        raise ValueError(
            f"`{backbone.spec}` has no patch above {ratio} x the median norm after layer {layer} of these images; "
            "take another layer, other images, or channel_vector(width, channels, norm)."
        )
    return tuple((patches[mask].mean(dim=0) - patches[~mask].mean(dim=0)).tolist())


def channel_vector(width: int, channels: tuple[int, ...], norm: float) -> tuple[float, ...]:
    """An outlier carried by chosen channels alone, evenly, of a given norm: (D) numbers."""
    outside = [channel for channel in channels if not 0 <= channel < width]
    if outside or not channels:
        raise ValueError(f"`channels` should be some of 0…{width - 1}; got {list(channels)}.")
    vector = [0.0] * width
    for channel in channels:
        vector[channel] = norm / len(set(channels)) ** 0.5
    return tuple(vector)
