"""Every detector's scores and marks for every patch of a set of images.

One forward pass an image serves all detectors, layers and thresholds: scores are kept, thresholds are put on them
afterwards.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.base import Detector
from diagnostics.edits.plant import Plant
from diagnostics.images import Size
from diagnostics.images.feed import ListedImage, Loaded, Loader, first_alike, list_images, stacked
from diagnostics.layout import Layout
from diagnostics.memory import check_memory
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.studies.blocks import none_readable, reasons_of, work_on_blocks
from diagnostics.taps import EachLayer, Recording, chain, resolve_layer

# Images from which detectors learn that have something to learn. Our choice; the released code takes 100 to 500.
IMAGES_TO_FIT = 32
# (name, layer) -> the detector ready for that layer
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
    fitted: Fitted | None = None,
    plant: Plant | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> xr.Dataset:
    """Every detector's scores and marks for every patch, from one forward pass an image.

    `detectors` are specs or parts, which go by their `detector_name`. The data set has `score` (float32) and `marked`
    (bool, by each detector's own threshold), dims detector, image, layer, row, col; with `plant` also `planted` (image,
    row, col), the truth; and `seconds` (detector), the time it took for an image. Detectors that learn take what
    `fitted`, of `fit_detectors`, holds of them; others are fitted for each layer on the first images.
    Images of several sizes share one grid; `inside` (image, row, col) says which patches an image has. Those that
    can't be read are left out; attribute `left_out` has name and reason.

    Options of the run: `layers`, `size`, `batch`, `strict`, `progress`.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    detectors : str, Detector, or list of them
        Specs such as `"lof:neighbors=10"`, or detectors.
    fitted : dict or None
        Detectors that have learned already, from `ao.fit_detectors`; None lets them learn on the first images.
    plant : Plant or None
        Outliers to plant on the way.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of `ao.RunOptions`, which go over `options`: `size`, `batch`, `layers`, `strict`, `progress` …, as
        far as they apply.

    Returns
    -------
    xarray.Dataset
        `score` (float32, in each detector's unit) and `marked` (bool) with dims detector, image, layer, row, col;
        `inside`, `seconds`.

    Raises
    ------
    ValueError
        For parts and layers that do not fit, and if no image can be read.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> scores = ao.score_images(backbone, scenes, ["norm", "relative-norm"], layers=[-1])
    >>> scores["marked"].dims
    ('detector', 'image', 'layer', 'row', 'col')
    """
    options = run_options("score_images", options, keywords, uses=("layers", "size", "batch", "strict", "progress"))
    run = prepare_run(backbone, images, detectors, options)
    ready = ready_detectors(backbone, run, fitted or {})
    arrays = _ScoreArrays(run, planted=plant is not None)

    def work(batch: list[Loaded]) -> None:
        pixels = stacked(batch)
        scorer = _Scorer(ready, backbone.layout(pixels))
        edit = plant and replace(plant, images=tuple(image.number for image in batch))
        with torch.no_grad():
            backbone.trunk(pixels, stop=run.layers[-1], tap=chain(edit, scorer.tap))
        arrays.put(batch, scorer, edit.places if edit else None)

    left_out: dict[str, str] = {}
    opened = np.zeros(len(run.listed), bool)
    for block in work_on_blocks(run.loader, work, options, title=f"score {backbone.spec}"):
        left_out |= reasons_of(block.images, run.listed)
        opened[[image.number for image in block.images if image.image is not None]] = True
    if not opened.any():
        raise none_readable(len(run.listed), left_out)
    attrs = {"backbone": backbone.spec, "size": str(run.size), "left_out": left_out}
    return arrays.dataset(opened).assign_attrs(attrs)


class _ScoreArrays:
    """Scores and marks of a whole run on the grid that its images share, filled batch by batch."""

    def __init__(self, run: DetectorRun, *, planted: bool) -> None:
        self.run = run
        rows, cols = (max(getattr(layout.grid, side) for layout in run.layouts) for side in ("rows", "cols"))
        images, shape = len(run.listed), (len(run.detectors), len(run.listed), len(run.layers), rows, cols)
        self.score, self.marked = np.full(shape, np.nan, np.float32), np.zeros(shape, bool)
        self.inside = np.zeros((images, rows, cols), bool)
        self.planted = np.zeros((images, rows, cols), bool) if planted else None
        self.seconds = dict.fromkeys(run.detectors, 0.0)

    def put(self, batch: Sequence[Loaded], scorer: _Scorer, planted: Tensor | None) -> None:
        """What the detectors made of a batch, and where outliers were planted in it: (B, N) bool."""
        grid, names = tuple(scorer.layout.grid), list(self.run.detectors)
        part = (slice(grid[0]), slice(grid[1]))
        images = [self.run.listed[image.number].name for image in batch]
        for (name, layer), values in scorer.scores.items():
            check_finite(values, images, f"scores of `{name}`", layer)
            for place, image in enumerate(batch):
                entry = (names.index(name), image.number, self.run.layers.index(layer), *part)
                self.score[entry] = values[place].reshape(grid).numpy()
                self.marked[entry] = scorer.masks[name, layer][place].reshape(grid).numpy()
        for place, image in enumerate(batch):
            self.inside[(image.number, *part)] = True
            if self.planted is not None and planted is not None:
                self.planted[(image.number, *part)] = planted[place].cpu().reshape(grid).numpy()
        for name, seconds in scorer.seconds.items():
            self.seconds[name] += seconds

    def dataset(self, opened: np.ndarray) -> xr.Dataset:
        """The data set of the images that were opened."""
        dims = ("detector", "image", "layer", "row", "col")
        maps = ("image", "row", "col")
        detectors = self.run.detectors
        seconds = np.array(list(self.seconds.values())) / max(opened.sum(), 1)
        variables: dict[str, tuple[Any, np.ndarray, str, str]] = {
            "score": (dims, self.score, "of each detector", "outlier score, higher is more outlying"),
            "marked": (dims, self.marked, "1", "marked by the detector's own threshold"),
            "inside": (maps, self.inside, "1", "the image has this patch"),
            "seconds": ("detector", seconds, "second", "time for one image, all layers"),
        }
        if self.planted is not None:
            variables["planted"] = (maps, self.planted, "1", "an outlier was planted here")
        dataset = xr.Dataset(
            {
                name: (where, values, {"units": units, "long_name": long_name})
                for name, (where, values, units, long_name) in variables.items()
            },
            coords={
                # Words of any length: fixed-length text has no agreed form in zarr yet.
                "detector": np.array(list(detectors), dtype=object),
                "image": np.array([image.name for image in self.run.listed], dtype=object),
                "layer": self.run.layers,
                "threshold": ("detector", [getattr(part, "threshold", np.nan) for part in detectors.values()]),
            },
        )
        return dataset.isel(image=np.flatnonzero(opened))


@dataclass(frozen=True)
class DetectorRun:
    """The images, detectors and layers of a run, checked to go together.

    `detectors` by their names in tables; `layers` are 1…L, ascending; `layouts` those of the images that can be read.
    """

    listed: list[ListedImage]
    detectors: dict[str, Detector]
    layers: list[int]
    layouts: set[Layout]
    loader: Loader
    size: Size


def prepare_run(
    backbone: Backbone, images: Any, detectors: Detectors, options: RunOptions | None = None
) -> DetectorRun:
    """Images, detectors and layers of a run, before any forward pass; ValueError for what does not go together.

    `options`: `layers`, `size` and `strict` count.
    """
    options = options or RunOptions()
    parts = named_detectors(detectors)
    layers = block_layers(options.layers, backbone.depth)
    size = options.size_for(backbone.native_size)
    listed = list_images(images, size, strict=options.strict)
    layouts = layouts_of(backbone, listed)
    for name, part in parts.items():
        if isinstance(threshold := getattr(part, "threshold", None), float) and np.isnan(threshold):
            raise ValueError(f"`threshold` of `{name}` should be a number; got nan.")
        for reason in filter(None, (backbone.lacking(part.needs), *map(part.unsupported_reason, layouts))):
            raise ValueError(f"`{name}` can't run on `{backbone.spec}`: {reason}.")
    check_memory(backbone, listed, list(parts.values()), device=str(backbone.device))
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=options.strict)
    return DetectorRun(listed, parts, layers, layouts, loader, size)


def block_layers(layers: Sequence[int] | None, depth: int) -> list[int]:
    """Layers as 1…L, ascending and unique; all for None. ValueError for others, the embedding included."""
    resolved = sorted({resolve_layer(layer, depth) for layer in (range(1, depth + 1) if layers is None else layers)})
    if layers is not None and (not resolved or resolved[0] == 0):
        raise ValueError(f"`layers` should be among 1…{depth} (or -{depth}…-1); got {list(layers)}.")
    return resolved


def named_detectors(detectors: Detectors) -> dict[str, Detector]:
    """Each detector by its name in tables: a spec as it is written, a part by its `detector_name`.

    ValueError where there is none, for an unknown one, and for two different ones of one name.
    """
    parts: dict[str, Detector] = {}
    for entry in [detectors] if isinstance(detectors, str | Detector) else detectors:
        if not isinstance(entry, str | Detector):
            raise TypeError(f'`detectors` should be specs or detectors, such as "lof" or Lof(); got {entry!r}.')
        name, part = (entry, DETECTORS.build(entry)) if isinstance(entry, str) else (detector_name(entry), entry)
        if parts.setdefault(name, part) != part:
            raise ValueError(f"two different detectors are called `{name}`; give each a class name of its own.")
    if not parts:
        raise ValueError(f"`detectors` should name at least one detector; known: {', '.join(DETECTORS)}.")
    return parts


def detector_name(part: Detector) -> str:
    """What a detector is called in tables: its name in `DETECTORS`, or that of its class, and the settings that differ
    from the defaults, as a spec would have them: `lof:neighbors=10`, `PeakShare:threshold=0.9`.

    Settings other than numbers and words, such as what a detector learned, are left out.
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


def check_finite(values: Tensor, names: Sequence[str], what: str, layer: int) -> None:
    """ValueError that names the first image of which any value (B, …) is NaN or infinite; `what` says whose values."""
    finite = values.isfinite().flatten(1).all(dim=1).tolist()
    if not all(finite):
        raise ValueError(
            f"{what} are NaN or infinite in `{names[finite.index(False)]}` at layer {layer}. Take --precision fp32, or "
            "leave the image out."
        )


def fit_detectors(
    backbone: Backbone,
    images: Any,
    detectors: Detectors,
    *,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> dict[tuple[str, int], Detector]:
    """Each detector made ready for each layer: (name, layer) -> detector, for `fitted` of what scores with them.

    Those that learn do so once, on the first images of the most common size (at most 32); others are as they are.
    Options of the run: `layers`, `size`.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    detectors : str, Detector, or list of them
        Specs such as `"lof:neighbors=10"`, or detectors.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of `ao.RunOptions`, which go over `options`: `size`, `batch`, `layers`, `strict`, `progress` …, as
        far as they apply.

    Returns
    -------
    dict of (str, int) to Detector
        The detector that is ready, by its name and layer.

    Raises
    ------
    ValueError
        For parts and layers that do not fit.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> list(ao.fit_detectors(backbone, scenes, "norm", layers=[2]))
    [('norm', 2)]
    """
    options = run_options("fit_detectors", options, keywords, uses=("layers", "size"))
    return ready_detectors(backbone, prepare_run(backbone, images, detectors, options), {})


def ready_detectors(backbone: Backbone, run: DetectorRun, fitted: Fitted) -> dict[tuple[str, int], Detector]:
    """Every detector for every layer: the one in `fitted`, or one that learns from the images of the run."""
    ready = {(name, layer): part for name, part in run.detectors.items() for layer in run.layers}
    known = {key: fitted[key] for key in ready if key in fitted}
    missing: dict[str, list[int]] = {}
    for name, layer in ready:
        if (name, layer) not in known and run.detectors[name].learns:
            missing.setdefault(name, []).append(layer)
    if missing:
        images = first_alike(run.loader, IMAGES_TO_FIT)
        for name, layers in missing.items():
            learned = run.detectors[name].fitted_to(backbone, images, layers)
            ready |= {(name, layer): part for layer, part in learned.items()}
    return ready | known
