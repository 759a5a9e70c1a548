"""Every detector's scores and marks for every patch of a set of images.

One forward pass an image serves all detectors, layers and thresholds: scores are kept, thresholds are put on them
afterwards.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.base import Detector
from diagnostics.edits.plant import Plant
from diagnostics.images import Size
from diagnostics.images.feed import (
    ListedImage,
    Loaded,
    Loader,
    first_alike,
    in_batches,
    list_images,
    opened_ahead,
    progress_bar,
    size_for,
    stacked,
)
from diagnostics.layout import Layout
from diagnostics.taps import EachLayer, Recording, chain, resolve_layer

# Images from which detectors learn that have something to learn. Our choice; the released code takes 100 to 500.
IMAGES_TO_FIT = 32
# (spec, layer) -> the detector ready for that layer
Fitted = Mapping[tuple[str, int], Detector]
# Specs, parts, or both; a single one may stand alone.
Detectors = str | Detector | Sequence[str | Detector]


class _Scorer:
    """What every detector scores and marks in the layers of one forward pass: (name, layer) -> (B, N), on the CPU.

    `seconds` by name: the time that each detector took, all layers together.
    """

    def __init__(self, detectors: Fitted, layout: Layout) -> None:
        self.layout = layout
        self.by_layer: dict[int, dict[str, Detector]] = {}
        for (name, layer), detector in detectors.items():
            self.by_layer.setdefault(layer, {})[name] = detector
        needs = {
            layer: {tap for detector in parts.values() for tap in detector.needs}
            for layer, parts in self.by_layer.items()
        }
        self.tap = EachLayer(needs, self._look)
        self.scores: dict[tuple[str, int], Tensor] = {}
        self.masks: dict[tuple[str, int], Tensor] = {}
        self.seconds: dict[str, float] = {}

    def _look(self, layer: int, recording: Recording) -> None:
        for name, detector in self.by_layer[layer].items():
            began = time.perf_counter()
            outliers = detector(recording, self.layout)
            self.scores[name, layer], self.masks[name, layer] = outliers.scores.cpu(), outliers.mask.cpu()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


def score_images(
    backbone: Backbone,
    images: Any,
    detectors: Detectors,
    *,
    layers: Sequence[int] | None = None,
    fitted: Fitted | None = None,
    plant: Plant | None = None,
    size: str | Size | None = None,
    batch: int = 8,
    strict: bool = False,
    progress: bool = False,
) -> xr.Dataset:
    """Every detector's scores and marks for every patch, from one forward pass an image.

    `detectors` are specs or parts, which go by their `detector_name`. The data set has `score` (float32) and `marked`
    (bool, by each detector's own threshold), dims detector, image, layer, row, col; with `plant` also `planted` (image,
    row, col), the truth; and `seconds` (detector), the time it took for an image. Detectors that learn take what
    `fitted`, of `fit_detectors`, holds of them; others are fitted for each layer on the first images.
    Images of several sizes share one grid; `inside` (image, row, col) says which patches an image has. Those that
    can't be read are left out; attribute `left_out` has name and reason.
    """
    run = prepared(backbone, images, detectors, layers, size, strict=strict)
    listed, specs, chosen, parts = run.listed, list(run.parts), run.layers, run.parts
    ready = ready_detectors(backbone, run, fitted or {})
    layouts = run.layouts
    rows, cols = (max(getattr(layout.grid, side) for layout in layouts) for side in ("rows", "cols"))
    shape = (len(specs), len(listed), len(chosen), rows, cols)
    score, marked = np.full(shape, np.nan, np.float32), np.zeros(shape, bool)
    inside, planted = np.zeros((len(listed), rows, cols), bool), np.zeros((len(listed), rows, cols), bool)
    seconds = dict.fromkeys(specs, 0.0)

    def work(some: list[Loaded]) -> None:
        pixels = stacked(some)
        scorer = _Scorer(ready, backbone.layout(pixels))
        edit = plant and _with_images(plant, [item.number for item in some])
        with torch.no_grad():
            backbone.trunk(pixels, stop=chosen[-1], tap=chain(edit, scorer.tap))
        grid = scorer.layout.grid
        for (spec, layer), values in scorer.scores.items():
            check_finite(values, [listed[item.number].name for item in some], f"`{spec}` found", layer)
        for place, item in enumerate(some):
            inside[item.number, : grid.rows, : grid.cols] = True
            if edit:
                planted[item.number, : grid.rows, : grid.cols] = edit.places[place].cpu().reshape(tuple(grid)).numpy()
            for (spec, layer), values in scorer.scores.items():
                at = (specs.index(spec), item.number, chosen.index(layer), slice(grid.rows), slice(grid.cols))
                score[at] = values[place].reshape(tuple(grid)).numpy()
                marked[at] = scorer.masks[spec, layer][place].reshape(tuple(grid)).numpy()
        for spec, spent in scorer.seconds.items():
            seconds[spec] += spent

    blocks = [range(start, min(start + batch, len(listed))) for start in range(0, len(listed), batch)]
    bar = progress_bar(f"score {backbone.spec}", len(listed), shown=progress)
    opened, left_out = np.zeros(len(listed), bool), dict[str, str]()
    with bar:
        for block, loaded in opened_ahead(blocks, run.loader):
            left_out |= {listed[item.number].name: item.reason for item in loaded if item.image is None}
            for some, _ in in_batches(loaded, batch, work):
                opened[[item.number for item in some]] = True
            bar.update(len(block))
    if not opened.any():
        raise ValueError(f"none of the {len(listed)} images can be opened. The first: {next(iter(left_out.values()))}")
    dims = ("detector", "image", "layer", "row", "col")
    dataset = xr.Dataset(
        {
            "score": (
                dims,
                score,
                {"units": "of each detector", "long_name": "outlier score, higher is more outlying"},
            ),
            "marked": (dims, marked, {"units": "1", "long_name": "marked by the detector's own threshold"}),
            "inside": (("image", "row", "col"), inside, {"units": "1", "long_name": "the image has this patch"}),
            "seconds": (
                "detector",
                np.array([seconds[spec] for spec in specs]) / max(opened.sum(), 1),
                {"units": "second", "long_name": "time for one image, all layers"},
            ),
        },
        coords={
            # Words of any length: fixed-length text has no agreed form in zarr yet.
            "detector": np.array(specs, dtype=object),
            "image": np.array([image.name for image in listed], dtype=object),
            "layer": chosen,
            "threshold": ("detector", [getattr(parts[spec], "threshold", np.nan) for spec in specs]),
        },
        attrs={"backbone": backbone.spec, "size": str(run.size), "left_out": left_out},
    )
    if plant:
        dataset["planted"] = (
            ("image", "row", "col"),
            planted,
            {"units": "1", "long_name": "an outlier was planted here"},
        )
    return dataset.isel(image=np.flatnonzero(opened))


def _with_images(plant: Plant, numbers: Sequence[int]) -> Plant:
    return replace(plant, images=tuple(numbers))


@dataclass(frozen=True)
class Run:
    """What a run of detectors begins with, checked at the door; layers are 1…L, ascending."""

    listed: list[ListedImage]
    parts: dict[str, Detector]
    layers: list[int]
    layouts: set[Layout]
    loader: Loader
    size: Size


def prepared(
    backbone: Backbone,
    images: Any,
    detectors: Detectors,
    layers: Sequence[int] | None,
    size: str | Size | None,
    *,
    strict: bool,
) -> Run:
    """Images, detectors and layers of a run; ValueError for what does not go together."""
    parts = named_detectors(detectors)
    asked = list(range(1, backbone.depth + 1) if layers is None else layers)
    chosen = sorted({resolve_layer(layer, backbone.depth) for layer in asked})
    if not chosen or chosen[0] == 0:
        raise ValueError(f"`layers` should be among 1…{backbone.depth} (or negative); got {asked}.")
    shown = size_for(backbone, size)
    listed = list_images(images, shown, strict=strict)
    layouts = layouts_of(backbone, listed)
    for spec, part in parts.items():
        if isinstance(threshold := getattr(part, "threshold", None), float) and np.isnan(threshold):
            raise ValueError(f"`threshold` of `{spec}` should be a number; got nan.")
        for reason in filter(None, (part.unsupported_reason(layout) for layout in layouts)):
            raise ValueError(f"`{spec}` can't run on `{backbone.spec}`: {reason}.")
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=strict)
    return Run(listed, parts, chosen, layouts, loader, shown)


def named_detectors(detectors: Detectors) -> dict[str, Detector]:
    """Each detector by its name in tables: a spec as it was given, a part by its `detector_name`.

    ValueError for no detector at all, for an unknown one, and for two different ones of one name.
    """
    parts: dict[str, Detector] = {}
    for one in [detectors] if isinstance(detectors, str | Detector) else detectors:
        if not isinstance(one, str | Detector):
            raise TypeError(f'`detectors` should be specs or detectors, such as "lof" or Lof(); got {one!r}.')
        name, part = (one, DETECTORS.build(one)) if isinstance(one, str) else (detector_name(one), one)
        if parts.setdefault(name, part) != part:
            raise ValueError(f"two different detectors are called `{name}`; give each a class name of its own.")
    if not parts:
        raise ValueError(f"`detectors` should name at least one detector; known: {', '.join(DETECTORS)}.")
    return parts


def detector_name(part: Detector) -> str:
    """What a detector is called in tables: its name in `DETECTORS`, or that of its class, and the settings that differ
    from the defaults, as a spec would have them: `lof:neighbors=10`, `PeakShare:threshold=0.9`.

    Settings that are no numbers or words, such as what a detector learned, are left out.
    """
    names = [name for name, known in DETECTORS.items() if known is type(part)]
    settings = []
    entries: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(part) if dataclasses.is_dataclass(part) else ()
    for entry in entries:
        value = getattr(part, entry.name)
        if isinstance(value, bool | int | float | str) and value != entry.default:
            settings.append(f"{entry.name}={value}")
    name = names[0] if names else type(part).__name__
    return f"{name}:{','.join(settings)}" if settings else name


def layouts_of(backbone: Backbone, listed: Sequence[ListedImage]) -> set[Layout]:
    """The layouts of all images that can be read."""
    return {backbone.layout(image.size) for image in listed if not image.reason}


def check_finite(values: Tensor, names: Sequence[str], who: str, layer: int) -> None:
    """ValueError that names the first image of which some value (B, …) is NaN or infinite."""
    whole = values.isfinite().flatten(1).all(dim=1).tolist()
    if not all(whole):
        raise ValueError(
            f"{who} tokens that are no numbers in `{names[whole.index(False)]}` at layer {layer}: NaN or infinity. "
            "Take --precision fp32, or leave the image out."
        )


def fit_detectors(
    backbone: Backbone,
    images: Any,
    detectors: Detectors,
    *,
    layers: Sequence[int] | None = None,
    size: str | Size | None = None,
) -> dict[tuple[str, int], Detector]:
    """Each detector made ready for each layer: (spec, layer) -> detector, for `fitted` of what scores with them.

    Those that learn do so once, on the first images of the most common size (at most 32); others are as they are.
    """
    return ready_detectors(backbone, prepared(backbone, images, detectors, layers, size, strict=False), {})


def ready_detectors(backbone: Backbone, run: Run, fitted: Fitted) -> dict[tuple[str, int], Detector]:
    """Every detector for every layer: the one in `fitted`, or one made ready here."""
    ready = {(spec, layer): part for spec, part in run.parts.items() for layer in run.layers}
    known = {place: fitted[place] for place in ready if place in fitted}
    missing: dict[str, list[int]] = {}
    for spec, layer in ready:
        if (spec, layer) not in known and run.parts[spec].learns:
            missing.setdefault(spec, []).append(layer)
    if missing:
        images = first_alike(run.loader, IMAGES_TO_FIT)
        for spec, layers in missing.items():
            ready |= {
                (spec, layer): part for layer, part in run.parts[spec].fitted_to(backbone, images, layers).items()
            }
    return ready | known
