"""Finds where outliers can be written into trained `pocket` weights: python -m training.planting

Nothing is trained. Directions are read off the tokens of some drawn scenes; diagnostics.backbones.pocket.planted says
what they change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.pocket import PLANTED, load_pocket
from diagnostics.backbones.pocket.planted import make_unit, mark_places, planted_patches, turn_gaze
from diagnostics.taps import Recorder, Recording
from segment.datasets.shapes import training_scene
from training.scores import as_input

# Our choice: keeps the rows that tell groups of tokens apart short.
RIDGE = 1e-3
FIRST_SCENE = 10**9  # far beyond the scenes that any training has seen


@dataclass(frozen=True, kw_only=True)
class Planting:
    """How outliers are planted. All numbers are our choice, found by trials on the trained weights.

    `layer` is the block whose FFN writes them. `places` patches of the grid may become outliers, and do where they are
    plain: their gray values have a standard deviation below `plain` of 255. `position` is the strength of the mark in
    the position table, in standard deviations of the direction that tokens use least. On a scale where other patches
    lie at 0 and plain marked ones at 1, the unit fires above `threshold`, with slope `gain`. `ratio` is the outliers'
    norm over the usual one. From layer `look_from` on patches look at outliers: along a common direction queries and
    keys of all get `lean`, those of outliers `draw` besides.
    """

    layer: int = 6
    places: int = 10
    plain: float = 9.0
    position: float = 20.0
    threshold: float = 0.8
    gain: float = 40.0
    ratio: float = 40.0
    look_from: int = 12
    lean: float = 4.5
    draw: float = 22.0
    scenes: int = 64
    seed: int = 1


def find_factors(backbone: Backbone, planting: Planting) -> dict[str, Tensor]:
    """What diagnostics.backbones.pocket.planted.write_outliers takes; the backbone's own weights are changed by it."""
    visual: Any = backbone.model.get_submodule("visual")
    images = [training_scene(FIRST_SCENE + number).image for number in range(planting.scenes)]
    pixels = as_input(backbone, images)
    plain = plain_patches(np.stack(images), backbone.patch_size[0], planting.plain)
    order = torch.randperm(plain.shape[1], generator=torch.Generator().manual_seed(planting.seed))
    factors = {
        "places": order[: planting.places].sort().values,
        "position": position_mark(visual, recorded(backbone, pixels, planting.layer), pixels, planting),
    }
    mark_places(visual, factors["places"], factors["position"])
    backbone.to()  # forgets the position tables that it keeps
    wanted = torch.zeros(len(pixels), plain.shape[1] + 1, dtype=torch.bool)
    wanted[:, 1 + factors["places"]] = plain[:, factors["places"]]
    unit = unit_for(visual, recorded(backbone, pixels, planting.layer), wanted, planting)
    make_unit(visual, **unit)
    factors |= unit
    fired = planted_patches(backbone, pixels, (planting.layer, int(unit["unit"][1])))
    for layer in range(planting.look_from, backbone.depth + 1):
        parts = gaze_for(recorded(backbone, pixels, layer), fired, layer, planting)
        turn_gaze(visual, layer, **parts)
        factors |= {f"{name}.{layer}": value for name, value in parts.items()}
    return factors


def recorded(backbone: Backbone, images: Tensor, layer: int) -> Recording:
    """What the steps look at, in one layer."""
    recorder = Recorder("block_sum", "ffn_hidden", "block_out", "normed", "query", "key", layers=[layer])
    with torch.no_grad():
        backbone.trunk(images, stop=layer, tap=recorder)
    return recorder.recording.at(layer)


def plain_patches(images: np.ndarray, side: int, limit: float) -> Tensor:
    """Patches of little contrast: (B, h, w, 3) uint8 -> (B, N) bool."""
    gray = torch.from_numpy(images).float().mean(dim=-1)
    return gray.unfold(1, side, side).unfold(2, side, side).flatten(3).std(dim=-1).flatten(1) < limit


def position_mark(visual: Any, recording: Recording, images: Tensor, planting: Planting) -> Tensor:
    """The vector for the position table, along the direction in which patches differ least at the layer: (D)."""
    spreads, directions = torch.linalg.eigh(torch.cov(recording["block_sum"][:, 1:].flatten(0, 1).T))
    with torch.no_grad():
        # The norm before the blocks divides by each token's spread and multiplies by its gain.
        entering = visual.conv1(images).flatten(2).mT + visual.positional_embedding[1:]
        mark = planting.position * spreads[0].sqrt() * directions[:, 0] / visual.ln_pre.weight
        scaled: Tensor = mark * entering.std(dim=-1).mean()
        return scaled - scaled.mean()


def unit_for(visual: Any, recording: Recording, wanted: Tensor, planting: Planting) -> dict[str, Tensor]:
    """The hidden unit that fires at the wanted tokens (B, T), and writes outliers into the two quietest channels."""
    block = visual.transformer.resblocks[planting.layer - 1]
    with torch.no_grad():
        inputs = block.ln_2(recording["block_sum"]).flatten(0, 1)
        written = recording["ffn_hidden"].abs().mean(dim=(0, 1)) * block.mlp.c_proj.weight.norm(dim=0)
    truth = wanted.flatten()
    model = LogisticRegression(C=3.0, max_iter=500).fit(inputs.numpy(), truth.numpy())
    weights = torch.from_numpy(model.coef_[0]).float()
    scores = inputs @ weights
    low, high = scores[~truth].median(), scores[truth].median()
    gain = planting.gain / (high - low)
    patches = recording["block_out"][:, 1:]
    quiet = patches.flatten(0, 1).pow(2).mean(dim=0).argsort()[:2]
    column = torch.zeros(len(weights))
    column[quiet] = torch.tensor([1.0, -1.0]) * 0.5**0.5
    usual = patches.norm(dim=-1).median()
    return {
        "unit": torch.tensor([planting.layer, int(written.argmin())]),
        "row": gain * weights,
        "bias": (-gain * low - planting.gain * planting.threshold)[None],
        "column": planting.ratio * usual / (planting.gain * (1 - planting.threshold)) * column,
    }


def gaze_for(recording: Recording, fired: Tensor, layer: int, planting: Planting) -> dict[str, Tensor]:
    """Changes of a layer's queries and keys after which patches look at the outliers `fired` (B, N).

    The common direction of each head is the one that queries and keys use least, the class token's as much as those of
    all patches together. The class token's queries do not lean.
    """
    normed, (_, heads, count, width) = recording["normed"], recording["query"].shape
    is_class, is_outlier = (torch.zeros(normed.shape[:2], dtype=torch.bool) for _ in range(2))
    is_class[:, 0], is_outlier[:, 1:] = True, fired
    groups = [is_class, is_outlier, ~is_class & ~is_outlier]
    class_row, class_bias = telling(normed, 0, groups)
    outlier_row, outlier_bias = telling(normed, 1, groups)
    directions = []
    for head in range(heads):
        vectors = torch.cat([recording[name][:, head].flatten(0, 1) for name in ("query", "key")])
        vectors = torch.cat([vectors, recording["query"][:, head, 0] * (count - 1) ** 0.5])
        directions.append(torch.linalg.eigh(vectors.T @ vectors / len(vectors))[1][:, 0])
    common = torch.cat(directions)
    lean, none, draw = planting.lean * common, torch.zeros(heads * width), planting.draw * torch.cat([common, common])
    return {
        "left": torch.stack([draw, torch.cat([-lean, none])], dim=1),
        "right": torch.stack([outlier_row, class_row]),
        "bias": torch.cat([lean * (1 - class_bias), lean]) + draw * outlier_bias,
    }


def telling(normed: Tensor, which: int, groups: list[Tensor]) -> tuple[Tensor, float]:
    """A row (D) and a bias that give 1 on tokens (B, T, D) of the group `which`, and 0 on others.

    Groups are masks (B, T) without a token in common; each weighs alike, however few tokens it has.
    """
    weights = torch.stack([mask / mask.sum() for mask in groups]).sum(dim=0)
    fit = Ridge(alpha=RIDGE).fit(
        normed.flatten(0, 1).numpy(), groups[which].flatten().numpy(), sample_weight=weights.flatten().numpy()
    )
    return torch.from_numpy(fit.coef_).float(), float(fit.intercept_)


def main(
    out: Annotated[Path, typer.Option(help="The file to write, .safetensors.")] = PLANTED,
) -> None:
    """Reads the stored weights of pocket and writes what makes pocket:planted of them, by default into the package."""
    factors = find_factors(load_pocket(""), Planting())
    save_file({name: value.contiguous() for name, value in factors.items()}, out)


if __name__ == "__main__":
    typer.run(main)
