"""Images through a backbone into one labeled data set of per-layer measurements, streamed to disk."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    in_batches,
    label_source,
    list_images,
    opened_ahead,
    progress_bar,
    size_for,
    stacked,
)
from diagnostics.layout import Grid, Layout, grid_of
from diagnostics.measures import DEFAULT_MEASURES, MEASURES, AcrossLayers, LayerView, measures_of
from diagnostics.measures.auc import pooled
from diagnostics.measures.base import Variable
from diagnostics.measures.tokens import STREAMS
from diagnostics.studies.store import MEASURED, SKIPPED, RunStore, Sizes
from diagnostics.taps import EachLayer, Recording, resolve_layer

# Images in one forward pass. Our choice: enough to fill a CPU's cores, small enough for a laptop's memory.
BATCH = 8
RATES = ("fpr", "tpr")
# What the pairs of all images together say; made at the end of a labeled run.
POOLED = (
    Variable("auc_pooled", ("layer",), "1", "AUC of same-class pairs of all images", "SC-CLIP, Fig 4 and 8"),
    Variable("roc", ("layer", "bin", "rate"), "1", "ROC of same-class pairs of all images", "SC-CLIP, Fig 4 and 8"),
)


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

    def _measure(self, layer: int, recording: Recording) -> None:
        shared = {"attention_wanted": self.attention_wanted}
        view = LayerView(layer, recording, self.layout, self.patch_size, self.labels, shared)
        for measure, kept in zip(self.measures, self.kept, strict=True):
            if isinstance(measure, AcrossLayers):
                kept.append(measure.keep(view))
            else:
                for name, value in measure.measure(view).items():
                    self.values.setdefault(name, []).append(value)

    def results(self) -> dict[str, Tensor]:
        """All variables, image first, layers second: (B, L, …)."""
        results = {name: torch.stack(values, dim=1) for name, values in self.values.items()}
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

    `labels` are patch labels (B, N). One forward pass up to the last layer asked for.
    """
    if backbone.device.type == "mps":
        raise ValueError("measures need double precision, which Apple's GPU lacks; load the backbone on `cpu`.")
    chosen = _layers(layers, backbone.depth)
    labels = None if labels is None else labels.to(backbone.device)
    observer = _Observer(measures, chosen, backbone.layout(images), backbone.patch_size, labels)
    with torch.no_grad():
        backbone.trunk(images, stop=chosen[-1], tap=observer.tap, positions=positions)
        return observer.results()


def probe(
    backbone: Backbone,
    images: Any,
    *,
    measures: Iterable[Any] | None = None,
    layers: Sequence[int] | None = None,
    labels: str | Path | Sequence[np.ndarray] | None = None,
    ignore: Collection[int] = (255,),
    size: str | Size | None = None,
    batch: int = BATCH,
    out: str | Path | None = None,
    strict: bool = False,
    positions: str | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Measures every image at every layer: one data set with named dimensions, units and sources.

    `images`: files, folders, globs, PIL images or arrays (h, w, 3), one or many. `measures`: specs such as
    `norms`; all that need no whole maps by default. `layers`: 1…L or negative, all by default. `labels`: a folder of
    label maps with the images' names, or arrays (h, w), for the measure `auc`, which leaves out the classes in
    `ignore`. `size`: `224`, `WxH`, `short:336` or `native`; the backbone's own size by default. `out`: a zarr store;
    the run goes on where it was if it was stopped, and a store of another run raises. Without it the run is in memory.

    An image that can't be read is left out, and so is a label map: the store keeps the reason (`left_out`), a run in
    memory warns. `strict` raises instead, and so does a run in which no image can be read. The data set has dims
    image, layer (1…L), head, row, col, channel, stream…; images of several sizes share one grid, filled with NaN
    beyond each image's own `rows` and `cols`.
    """
    if batch < 1:
        raise ValueError(f"`batch` should be at least 1; got {batch}.")
    shown = size_for(backbone, size)
    listed = list_images(images, shown, strict=strict)
    chosen = _layers(layers, backbone.depth)
    grids = {grid_of(image.size, backbone.patch_size) for image in listed if not image.reason}
    parts = _applicable(backbone, measures, grids, labeled=labels is not None)
    variables = _variables(parts)
    store = RunStore.open(
        Path(out) if out is not None else None,
        settings=_settings(backbone, listed, parts, chosen, shown, labels, ignore, positions),
        variables=variables,
        sizes=_sizes(backbone, parts, chosen, grids, variables),
        images=_image_coordinates(backbone, listed),
        block=batch,
    )
    blocks = store.pending()
    loader = Loader(
        listed, backbone.mean, backbone.std, backbone.patch_size, label_source(labels, listed), ignore, strict
    )

    def work(some: list[Loaded]) -> dict[str, np.ndarray]:
        patch_labels = (
            None if labels is None else torch.stack([item.labels for item in some if item.labels is not None])
        )
        pixels = stacked(some)
        found = measure_images(backbone, pixels, parts, layers=chosen, labels=patch_labels, positions=positions)
        return {name: value.cpu().numpy() for name, value in found.items()}

    done = len(listed) - sum(map(len, blocks))
    bar = progress_bar(f"probe {backbone.spec}", len(listed), done=done, shown=progress)
    with bar:
        for block, loaded in opened_ahead(blocks, loader):
            measured = {
                item.number: {name: values[place] for name, values in found.items()}
                for some, found in in_batches(loaded, batch, work)
                for place, item in enumerate(some)
            }
            store.write(block, *_as_arrays(block, loaded, measured, variables, store))
            bar.update(len(block))
    if any(variable.name == "pair_histogram" for variable in variables):
        _write_pooled(store)
    _tell_left_out(store, listed, silent=out is not None)
    dataset = store.dataset()
    return dataset.load() if out is None else dataset


def _tell_left_out(store: RunStore, images: Sequence[ListedImage], *, silent: bool) -> None:
    """Warns of what was left out, unless the store on disk says it; a run without a single image raises."""
    reasons = {
        image.name: str(reason)
        for image, reason in zip(images, np.asarray(store.array("reason")[:]), strict=True)
        if reason
    }
    if (store.status == SKIPPED).all():
        raise ValueError(f"none of the {len(images)} images can be read. The first: {next(iter(reasons.values()))}")
    if reasons and not silent:
        lines = "".join(f"\n  {reason}" for reason in reasons.values())
        warnings.warn(f"left out ({len(reasons)}):{lines}", stacklevel=3)


def _as_arrays(
    block: range,
    loaded: Sequence[Loaded],
    measured: Mapping[int, Mapping[str, np.ndarray]],
    variables: Sequence[Variable],
    store: RunStore,
) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """What the store takes of a block: arrays padded to the common grid, status, reasons."""
    arrays = {}
    for variable in variables:
        array = store.array(variable.name)
        fill = np.nan if variable.dtype.startswith("float") else 0
        values = np.full((len(block), *array.shape[1:]), fill, dtype=array.dtype)
        for number, results in measured.items():
            own = results[variable.name]
            corner = tuple(slice(0, length) for length in own.shape)
            values[number - block.start][corner] = own
        arrays[variable.name] = values
    status = np.array([MEASURED if item.number in measured else SKIPPED for item in loaded], dtype=np.uint8)
    return arrays, status, [item.reason for item in loaded]


def _write_pooled(store: RunStore) -> None:
    """AUC and ROC over the pairs of all images, from the summed histogram."""
    total: np.ndarray | None = None
    for counts in store.blocks_of("pair_histogram"):
        summed = counts.astype(np.int64).sum(axis=0)
        total = summed if total is None else total + summed
    if total is None:
        return
    values = pooled(total)
    for variable in POOLED:
        store.write_whole(variable, values[variable.name].astype(variable.dtype))


def _layers(layers: Sequence[int] | None, depth: int) -> list[int]:
    """Layers 1…L, ascending and unique."""
    if layers is None:
        return list(range(1, depth + 1))
    chosen = sorted({resolve_layer(layer, depth) for layer in layers})
    if not chosen or chosen[0] == 0:
        raise ValueError(f"`layers` should be among 1…{depth} (or -{depth}…-1); got {list(layers)}.")
    return chosen


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
        coordinates["rate"] = np.array(RATES)
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
    labels: Any,
    ignore: Collection[int],
    positions: str | None,
) -> dict[str, Any]:
    """Everything that decides the numbers of a run; two runs with the same settings may share a store."""
    settings: dict[str, Any] = {
        "backbone": backbone.spec,
        "weights": fingerprint(backbone.model),
        "precision": str(backbone.dtype).removeprefix("torch."),
        "positions": positions or backbone.positions,
        "size": str(size),
        "patch_size": list(backbone.patch_size),
        "prefix": backbone.prefix,
        "measures": [repr(part) for part in parts],
        "layers": list(layers),
        "images": digest(images),
    }
    if labels is not None:
        settings["labels"] = Path(labels).absolute().as_posix() if isinstance(labels, (str, Path)) else "arrays"
        settings["ignore"] = sorted(ignore)
    return settings
