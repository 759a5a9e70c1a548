"""Images through a backbone into one labeled data set of per-layer measurements, streamed to disk."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.backbones.fingerprint import fingerprint
from diagnostics.images import Size
from diagnostics.images.feed import (
    ListedImage,
    Loaded,
    Loader,
    digest,
    label_source,
    labels_digest,
    list_images,
    stacked,
)
from diagnostics.images.label_palette import Palette, numbered_palette
from diagnostics.layout import Grid, Layout, grid_of
from diagnostics.local_path import local_path
from diagnostics.lock import held
from diagnostics.measures import DEFAULT_MEASURES, MEASURES, AcrossLayers, LayerView, measures_of
from diagnostics.measures.auc import POINTS, POOLED, RATES, coarse, pooled
from diagnostics.measures.base import Variable
from diagnostics.measures.tokens import STREAMS
from diagnostics.memory import FLOAT, TokenModel, check_memory
from diagnostics.options import RunKeywords, RunOptions, run_options
from diagnostics.studies.blocks import BlockResults, none_readable, warn_left_out, work_on_blocks
from diagnostics.studies.scoring import block_layers
from diagnostics.studies.store import MEASURED, SKIPPED, RunStore, Sizes
from diagnostics.taps import EachLayer, Recording

PROBE_OPTIONS = ("size", "batch", "layers", "positions", "strict", "progress")


def summed_over(variable: Variable) -> bool:
    """Whether a variable is summed over images instead of having them as a dim."""
    return "image" not in variable.dims


# The variables of a batch, and for each of its images the first layer whose output is damaged, 0 where none is.
Measured = tuple[dict[str, np.ndarray], list[int]]


@dataclass(frozen=True)
class _Truth:
    """Label maps of a run: a folder or arrays, the labels that take part in nothing, and the palette of colors."""

    labels: str | Path | Sequence[np.ndarray] | None
    ignore: Collection[int]
    palette: Palette | None


class _Observer:
    """Measures each layer of a forward pass when its block ends, and keeps the numbers only."""

    def __init__(
        self,
        measures: Sequence[Any],
        layers: Sequence[int],
        layout: Layout,
        patch_size: tuple[int, int],
        labels: Tensor | None = None,
    ) -> None:
        self.measures, self.layout = measures, layout
        self.patch_size, self.labels = patch_size, labels
        needs = {tap for measure in measures for tap in measure.needs}
        self.tap = EachLayer(dict.fromkeys(layers, needs), self._measure)
        self.attention_wanted = {name for measure in measures for name in getattr(measure, "wants", ())}
        self.values: dict[str, list[Tensor]] = {}
        self.kept: list[list[Tensor]] = [[] for _ in measures]
        self.damaged: list[Tensor] = []

    def _measure(self, layer: int, recording: Recording) -> None:
        self.damaged.append(~recording["block_out", layer].isfinite().flatten(1).all(dim=1))
        shared = {"attention_wanted": self.attention_wanted}
        view = LayerView(layer, recording, self.layout, self.patch_size, self.labels, shared)
        for measure, kept in zip(self.measures, self.kept, strict=True):
            if isinstance(measure, AcrossLayers):
                kept.append(measure.keep(view))
            else:
                for name, value in measure.measure(view).items():
                    self.values.setdefault(name, []).append(value)

    def first_damaged(self) -> Tensor:
        """The first layer of each image whose block output has NaN or infinity, 0 where none has: (B) int64."""
        damaged = torch.stack(self.damaged, dim=1)
        layers = torch.tensor(sorted(self.tap.needs), device=damaged.device)
        return torch.where(damaged.any(dim=1), layers[damaged.int().argmax(dim=1)], 0)

    def results(self) -> dict[str, Tensor]:
        """All variables, image first, layers second: (B, L, …); those without images (L, …)."""
        summed = {variable.name for measure in self.measures for variable in measure.variables if summed_over(variable)}
        results = {name: torch.stack(values, dim=int(name not in summed)) for name, values in self.values.items()}
        for measure, kept in zip(self.measures, self.kept, strict=True):
            if kept:
                results |= measure.compare(torch.stack(kept))
        return results


def measure_images(
    backbone: Backbone,
    images: Tensor,
    measures: Sequence[Any],
    *,
    layers: Sequence[int] | None = None,
    labels: Tensor | None = None,
    positions: str | None = None,
) -> dict[str, Tensor]:
    """The measures' variables of one batch: normalized (B, 3, h, w) -> tensors (B, L, …) on the backbone's device.

    A variable without the dim `image` is summed over the batch, (L, …). `labels` are patch labels (B, N). One forward
    pass up to the last layer asked for. Warns of images in which the network's own numbers leave the range of its
    precision: what is measured from that layer on is NaN, or -1 for counts.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : Tensor (B, 3, h, w)
        Normalized images, from `ao.load_image`.
    measures : list of Measure
        Parts, such as `ao.MEASURES.build("norms")`.
    layers : list of int, or None
        Layers 1…L or negative; None takes all.
    labels : int64 Tensor (B, N), or None
        Labels of patches.
    positions : str or None
        Interpolation of positional embeddings, a name of `ao.POSITIONS`; None takes the backbone's own.

    Returns
    -------
    dict of str to Tensor (B, L, …)
        Variable by name.

    Raises
    ------
    ValueError
        For layers that do not exist.

    Examples
    --------
    >>> import torch
    >>> import attention_outliers as ao
    >>> numbers = ao.measure_images(ao.load_backbone("tiny"), torch.zeros(1, 3, 64, 64), [ao.MEASURES.build("norms")])
    >>> numbers["norm"].shape
    torch.Size([1, 12, 4, 4])
    """
    results, damaged = _observed(backbone, images, measures, layers=layers, labels=labels, positions=positions)
    for place in damaged.nonzero().flatten().tolist():
        reason = _damage(int(damaged[place]), backbone, measures)
        warnings.warn(f"image {place} of the batch: {reason}.", stacklevel=2)
    return results


def _damage(layer: int, backbone: Backbone, measures: Sequence[Any]) -> str:
    """What to say of an image whose block outputs have NaN or infinity from a layer on."""
    names = ", ".join(type(measure).__name__ for measure in measures)
    precision = str(backbone.dtype).removeprefix("torch.")
    return (
        f"the network's own numbers leave the range of {precision} at layer {layer} (NaN or infinity in its output); "
        f"from there on NaN, or -1 for counts, is the answer of {names}. Check the image and the weights"
    )


def _observed(
    backbone: Backbone,
    images: Tensor,
    measures: Sequence[Any],
    *,
    layers: Sequence[int] | None,
    labels: Tensor | None,
    positions: str | None,
) -> tuple[dict[str, Tensor], Tensor]:
    """The variables of one batch, and the first damaged layer of each image, (B), see `_Observer.first_damaged`."""
    if backbone.device.type == "mps":
        raise ValueError("measures need double precision, which Apple's GPU lacks; load the backbone on `cpu`.")
    chosen = block_layers(layers, backbone.depth)
    labels = None if labels is None else labels.to(backbone.device)
    observer = _Observer(measures, chosen, backbone.layout(images), backbone.patch_size, labels)
    with torch.no_grad():
        backbone.trunk(images, stop=chosen[-1], tap=observer.tap, positions=positions)
        return observer.results(), observer.first_damaged()


def probe(
    backbone: Backbone,
    images: Any,
    *,
    measures: Iterable[Any] | None = None,
    labels: str | Path | Sequence[np.ndarray] | None = None,
    ignore: Collection[int] = (255,),
    palette: str | Path | None = None,
    out: str | Path | None = None,
    options: RunOptions | None = None,
    **keywords: Unpack[RunKeywords],
) -> xr.Dataset:
    """Measures every image at every layer: one data set with named dimensions, units and sources.

    `images`: files, folders, globs, PIL images or arrays (h, w, 3), one or many. `measures`: specs such as
    `norms`; all that need no whole maps by default. `labels`: a folder of label maps with the images' names, or arrays
    (h, w), for the measure `auc`, which leaves out the classes in `ignore`. `out`: a zarr store; a run that was
    interrupted resumes, and a store of another run, or one that another process writes to, raises. Without it the run
    is in memory.

    An image that can't be read is left out, and so is a label map: the store keeps the reason (`left_out`), a run in
    memory warns. Where the network's own numbers overflow, the image stays in and the reason is kept likewise: its
    measures are NaN from that layer on, -1 for counts. `strict` raises instead, and so does a run in which no image
    can be read. The data set has dims image, layer (1…L), head, row, col, channel, stream…; images of several sizes
    share one grid, filled with NaN beyond each image's own `rows` and `cols`.

    Options of the run: `layers`, `size`, `batch`, `positions`, `strict`, `progress`; see RunOptions.

    Parameters
    ----------
    backbone : Backbone
        The model, from `ao.load_backbone`.
    images : path, glob, PIL image, array (H, W, 3) uint8, or list of them
        What is shown to the model; of a folder, every image below it.
    measures : list of str or Measure, or None
        Specs such as `"norms"`, or measures; None takes all that need no whole maps.
    labels : path, list of int arrays (H, W), or None
        Folder of label maps named as the images, or the maps.
    ignore : set of int
        Labels that take part in nothing.
    palette : path, "gray" or None
        Of label maps that show classes as colors: a file with a color a line (`#800000`, `128 0 0`), line n, from 0,
        for label n; `gray` for three equal channels.
    out : path or None
        A zarr store; None keeps the run in memory.
    options : RunOptions or None
        Size, batch, layers and so on as one value.
    **keywords
        Fields of `ao.RunOptions`, which go over `options`: `size`, `batch`, `layers`, `strict`, `progress` …, as
        far as they apply.

    Returns
    -------
    xarray.Dataset
        Dims image, layer (1…L), head, row, col, channel …; each variable has its unit and source as attributes.

    Raises
    ------
    ValueError
        For parts and layers that do not fit, and if no image can be read.
    OtherRun
        A ValueError: the store holds a run with other settings.

    Source
    ------
    Each variable's attribute `source`.

    Examples
    --------
    >>> import attention_outliers as ao
    >>> backbone = ao.load_backbone("tiny:outliers=true")
    >>> scenes = [sample.image for sample in ao.Shapes(scenes=2)]
    >>> dataset = ao.probe(backbone, scenes, measures=["norms"])
    >>> dataset["norm"].dims
    ('image', 'layer', 'row', 'col')
    """
    options = run_options("probe", options, keywords, uses=PROBE_OPTIONS)
    listed = list_images(images, options.size_for(backbone.native_size), strict=options.strict)
    out = None if out is None else local_path(out)
    with nullcontext() if out is None else held(out):
        truth = _Truth(labels, ignore, None if palette is None else numbered_palette(palette))
        store = _measured(backbone, listed, measures, truth, out, options)
        _report_left_out(store, listed, silent=out is not None)
        dataset = store.dataset()
        return dataset.load() if out is None else dataset


def _measured(
    backbone: Backbone,
    listed: list[ListedImage],
    measures: Iterable[Any] | None,
    truth: _Truth,
    out: Path | None,
    options: RunOptions,
) -> RunStore:
    """The finished store of a run; no other process writes to `out`."""
    size = options.size_for(backbone.native_size)
    layers = block_layers(options.layers, backbone.depth)
    grids = {grid_of(image.size, backbone.patch_size) for image in listed if not image.reason}
    parts = _applicable(backbone, measures, grids, labeled=truth.labels is not None)
    variables = _variables(parts)
    check_fit(backbone, listed, parts, len(layers), device=str(backbone.device))
    store = RunStore.open(
        out,
        settings=_settings(backbone, listed, parts, layers, size, truth, options.positions),
        variables=variables,
        sizes=_sizes(backbone, parts, layers, grids, variables),
        images=_image_coordinates(backbone, listed),
        block=options.batch,
    )
    source = label_source(truth.labels, listed, truth.palette)
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, source, truth.ignore, options.strict)

    work = partial(_measure_batch, backbone, parts, layers, options.positions)
    title, blocks = f"probe {backbone.spec}", store.pending()
    for block in work_on_blocks(loader, work, options, title=title, blocks=blocks):
        damages = _damages(block, listed, backbone, parts)
        if damages and options.strict:
            raise ValueError(f"{next(iter(damages.values()))}. Without `strict` the run goes on.")
        arrays, status, reasons = _as_arrays(block, variables, store)
        reasons = [reason or damages.get(number, "") for number, reason in zip(block.numbers, reasons, strict=True)]
        store.write(block.numbers, arrays, status, reasons)
    pooled_too = any(variable.name == "pair_histogram" for variable in variables)
    if blocks or not store.finished:
        store.finish(_write_pooled(store) if pooled_too else ())
    if pooled_too:
        _warn_of_coarse_bins(np.asarray(store.array("auc_pooled_error")[:]), np.asarray(store.array("layer")[:]))
    return store


def check_fit(
    backbone: TokenModel, listed: Sequence[ListedImage], parts: Sequence[Any], layers: int, *, device: str
) -> None:
    """Refuses images for which the pass, a measure or the results of the layers take more than the memory."""
    variables = _variables(parts)
    check_memory(
        backbone,
        listed,
        parts,
        device=device,
        results=lambda layout: FLOAT * layers * sum(_numbers(each, layout, backbone.heads) for each in variables),
        advice="choose a smaller --size, such as short:336, or leave out measures of pairs of tokens",
    )


def _numbers(variable: Variable, layout: Layout, heads: int) -> int:
    """How many numbers of a layer a variable keeps of an image, at least; dims of unknown length count once."""
    if summed_over(variable):
        return 0
    lengths = {"row": layout.grid.rows, "col": layout.grid.cols, "head": heads}
    lengths |= dict.fromkeys(("token", "key_token"), layout.tokens)
    return math.prod(lengths.get(dim, 1) for dim in variable.dims)


def _measure_batch(
    backbone: Backbone, parts: Sequence[Any], layers: Sequence[int], positions: str | None, batch: Sequence[Loaded]
) -> Measured:
    """All variables of a batch of opened images, (B, L, …) each or summed (L, …), and each image's damaged layer."""
    labels = [image.labels for image in batch if image.labels is not None]
    measured, damaged = _observed(
        backbone,
        stacked(batch),
        parts,
        layers=layers,
        labels=torch.stack(labels) if labels else None,
        positions=positions,
    )
    return {name: values.cpu().numpy() for name, values in measured.items()}, damaged.tolist()


def _damages(
    block: BlockResults[Measured], listed: Sequence[ListedImage], backbone: Backbone, parts: Sequence[Any]
) -> dict[int, str]:
    """Number of each image of a block in which the network's own numbers overflow -> what to say of it."""
    return {
        image.number: f"{listed[image.number].name}: {_damage(layer, backbone, parts)}"
        for batch, (_, damaged) in block.batches
        for image, layer in zip(batch, damaged, strict=True)
        if layer
    }


def _report_left_out(store: RunStore, images: Sequence[ListedImage], *, silent: bool) -> None:
    """Warns of what was left out, unless the store on disk says it; a run without a single image raises."""
    stored = np.asarray(store.array("reason")[:])
    reasons = {image.name: str(reason) for image, reason in zip(images, stored, strict=True) if reason}
    if (store.status == SKIPPED).all():
        raise none_readable(len(images), reasons)
    if not silent:
        warn_left_out(reasons, stacklevel=4)


def _as_arrays(
    block: BlockResults[Measured], variables: Sequence[Variable], store: RunStore
) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """What the store takes of a block: arrays padded to the common grid, status, reasons."""
    summed = {variable.name for variable in variables if summed_over(variable)}
    measured = {
        image.number: {name: values[place] for name, values in results.items() if name not in summed}
        for batch, (results, _) in block.batches
        for place, image in enumerate(batch)
    }
    arrays = {}
    for variable in variables:
        array = store.array(variable.name)
        if summed_over(variable):
            totals = [results[variable.name] for _, (results, _) in block.batches]
            arrays[variable.name] = sum(totals, start=np.zeros(array.shape[1:], dtype=array.dtype))
            continue
        fill = np.nan if variable.dtype.startswith("float") else 0
        padded = np.full((len(block.numbers), *array.shape[1:]), fill, dtype=array.dtype)
        for number, results in measured.items():
            values = results[variable.name]
            corner = tuple(slice(0, length) for length in values.shape)
            padded[number - block.numbers.start][corner] = values
        arrays[variable.name] = padded
    status = np.array([MEASURED if image.number in measured else SKIPPED for image in block.images], dtype=np.uint8)
    return arrays, status, [image.reason for image in block.images]


def _write_pooled(store: RunStore) -> list[str]:
    """AUC and ROC over the pairs of all images, from the summed histogram; returns the names of what was written."""
    total: np.ndarray | None = None
    for counts in store.sums_of("pair_histogram"):
        total = counts if total is None else total + counts
    if total is None:
        return []
    values = pooled(total)
    for variable in POOLED:
        store.write_whole(variable, values[variable.name].astype(variable.dtype))
    return [variable.name for variable in POOLED]


def _warn_of_coarse_bins(errors: np.ndarray, layers: np.ndarray) -> None:
    """Warns where the histogram's bins were too coarse; also of a run that was finished before."""
    if np.isfinite(errors).any() and (reason := coarse(float(np.nanmax(errors)))):
        warnings.warn(f"layer {layers[int(np.nanargmax(errors))]}: {reason}.", stacklevel=4)


def _applicable(
    backbone: Backbone, measures: Iterable[Any] | None, grids: Collection[Grid], *, labeled: bool
) -> list[Any]:
    """The measures to run: those asked for, each of which must apply; by default all that apply."""
    parts = measures_of(DEFAULT_MEASURES if measures is None else measures)
    if not parts:
        raise ValueError(f"`measures` should name at least one measure; known: {', '.join(MEASURES)}.")
    kept = []
    for part in parts:
        layouts = [Layout(backbone.prefix, grid, backbone.class_index) for grid in grids]
        reasons = {reason for layout in layouts if (reason := part.unsupported_reason(layout, labeled=labeled))}
        reasons |= {reason} if (reason := backbone.lacking(part.needs)) else set()
        if reasons and measures is not None:
            raise ValueError(f"{part} can't run on `{backbone.spec}`: {'; '.join(sorted(reasons))}.")
        if not reasons:
            kept.append(part)
    return kept


def _variables(parts: Sequence[Any]) -> list[Variable]:
    """All variables of the measures; the same name twice is refused."""
    variables: dict[str, Variable] = {}
    for part in parts:
        for variable in part.variables:
            if variable.name in variables:
                raise ValueError(f"two measures yield `{variable.name}`; ask for one of them: {part}.")
            variables[variable.name] = variable
    return list(variables.values())


def _sizes(
    backbone: Backbone,
    parts: Sequence[Any],
    layers: Sequence[int],
    grids: Collection[Grid],
    variables: Sequence[Variable],
) -> Sizes:
    """Lengths and coordinates of all dimensions that the variables have."""
    rows, cols = max(grid.rows for grid in grids), max(grid.cols for grid in grids)
    tokens = backbone.prefix + max(grid.patches for grid in grids)
    coordinates: dict[str, np.ndarray] = {
        "layer": np.array(layers),
        "other_layer": np.array(layers),
        "head": np.arange(backbone.heads),
        "row": np.arange(rows),
        "col": np.arange(cols),
        "token": np.arange(tokens),
        "key_token": np.arange(tokens),
        "channel": np.arange(backbone.width),
        "stream": np.array(STREAMS),
    }
    layouts = [Layout(backbone.prefix, grid, backbone.class_index) for grid in grids]
    for part in parts:
        for name, values in (item for layout in layouts for item in part.coordinates(layout).items()):
            if not np.array_equal(coordinates.setdefault(name, np.asarray(values)), values):
                raise ValueError(
                    f"`{name}` should mean the same for all measures and images of a run; {part} asks for "
                    f"{np.asarray(values).tolist()} where others have {coordinates[name].tolist()}. Name the same "
                    "patches in all measures, or show all images in one --size."
                )
    if any(variable.name == "pair_histogram" for variable in variables):
        variables = [*variables, *POOLED]
        coordinates |= {"rate": np.array(RATES), "bin": np.arange(POINTS)}
    used = {dim for variable in variables for dim in variable.dims} - {"image"} | {"layer"}
    coordinates = {name: values for name, values in coordinates.items() if name in used}
    return Sizes({name: len(values) for name, values in coordinates.items()}, coordinates)


def _image_coordinates(backbone: Backbone, images: Sequence[ListedImage]) -> xr.Dataset:
    """Name, own size and grid of each image."""
    grids = [grid_of(p.size, backbone.patch_size) if not p.reason else Grid(0, 0) for p in images]
    return xr.Dataset(
        coords={
            "image": ("image", np.array([image.name for image in images], dtype=object)),
            "height": ("image", np.array([p.original[0] for p in images]), {"units": "pixel"}),
            "width": ("image", np.array([p.original[1] for p in images]), {"units": "pixel"}),
            "rows": ("image", np.array([grid.rows for grid in grids]), {"units": "patch"}),
            "cols": ("image", np.array([grid.cols for grid in grids]), {"units": "patch"}),
        },
    )


def _settings(
    backbone: Backbone,
    images: Sequence[ListedImage],
    parts: Sequence[Any],
    layers: Sequence[int],
    size: Size,
    truth: _Truth,
    positions: str | None,
) -> dict[str, Any]:
    """Everything that decides the numbers of a run; two runs with the same settings may share a store."""
    settings: dict[str, Any] = {
        "backbone": backbone.spec,
        "weights": fingerprint(backbone.model),
        **backbone.origin,
        "precision": str(backbone.dtype).removeprefix("torch."),
        "positions": positions or backbone.positions,
        "mean": list(backbone.mean),
        "std": list(backbone.std),
        "size": str(size),
        "patch_size": list(backbone.patch_size),
        "prefix": backbone.prefix,
        "measures": [repr(part) for part in parts],
        "layers": list(layers),
        "images": digest(images),
    }
    labels = truth.labels
    if labels is not None:
        settings["labels"] = Path(labels).absolute().as_posix() if isinstance(labels, (str, Path)) else "arrays"
        settings["label maps"] = labels_digest(labels, images)
        settings["ignore"] = sorted(truth.ignore)
        if truth.palette is not None:
            settings["palette"] = repr(truth.palette)
    return settings
