"""Detectors side by side: which patches each marks, whether they agree, and how they stand against known truth.

One forward pass an image serves all detectors, layers and thresholds: scores are kept, thresholds are put on them
afterwards.
"""

from __future__ import annotations

import dataclasses
import itertools
import numbers
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from torch import Tensor

from diagnostics.backbones.base import Backbone
from diagnostics.detectors import DETECTORS
from diagnostics.detectors.base import Detector
from diagnostics.edits.plant import Plant, channel_vector, outlier_vector
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
from diagnostics.images.label_maps import IGNORE
from diagnostics.layout import Layout
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.studies.location import BACKGROUND_CLASSES, patch_places, where_marked
from diagnostics.taps import EachLayer, Recording, chain, resolve_layer

# Images from which detectors learn that have something to learn. Our choice; the released code takes 100 to 500.
IMAGES_TO_FIT = 32
# Thresholds of a sweep. Our choice.
THRESHOLDS = 20

# (spec, layer) -> the detector ready for that layer
Fitted = Mapping[tuple[str, int], Detector]
# Specs, parts, or both; a single one may stand alone.
Detectors = str | Detector | Sequence[str | Detector]
# How many thresholds of a sweep to find among the scores; or the thresholds, for all detectors or by spec.
Thresholds = int | Sequence[float] | Mapping[str, Sequence[float]]


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


def compare(
    backbone: Backbone,
    images: Any,
    detectors: Detectors,
    layers: Sequence[int] | None = None,
    thresholds: Thresholds = THRESHOLDS,
    labels: Any = None,
    planted: Sequence[int] | None = None,
    *,
    clustered: bool = False,
    background: Collection[int] = BACKGROUND_CLASSES,
    ignore: Collection[int] = IGNORE,
    seed: int = 0,
    size: str | Size | None = None,
    batch: int = 8,
    progress: bool = False,
) -> pd.DataFrame:
    """What each detector marks at each layer and threshold: a row for each, see `threshold_table`.

    `labels`, a folder of label maps or one array an image, add where the marked tokens sit: the share on labeled
    `background` beside its base rate, local contrast, distance to the border. `planted` counts of outliers put into
    every image at the first of `layers` give further rows with `precision`, `recall` and `f1` against the known
    places; the column `planted` is 0 in the rows of the images as they are. One forward pass an image serves all
    rows of a count, and labels need none.
    """
    options: dict[str, Any] = {"layers": layers, "size": size, "batch": batch}
    options["fitted"] = fit_detectors(backbone, images, detectors, layers=layers, size=size)
    options["progress"] = progress
    natural = score_images(backbone, images, detectors, **options)
    places = None
    if labels is not None:
        places = patch_places(
            natural, images, patch_size=backbone.patch_size, labels=labels, background=background, ignore=ignore
        )
    tables = [threshold_table(natural, thresholds=thresholds, places=places).assign(planted=0, clustered=False)]
    for plant, scores in planted_scores(
        backbone, images, detectors, planted or (), clustered=clustered, seed=seed, **options
    ):
        table = threshold_table(scores, thresholds=thresholds, truth=scores["planted"], places=places)
        tables.append(table.assign(planted=plant.count, clustered=plant.clustered))
    return pd.concat(tables, ignore_index=True)


def planted_scores(
    backbone: Backbone,
    images: Any,
    detectors: Detectors,
    counts: Sequence[int],
    *,
    clustered: bool = False,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    fitted: Fitted | None = None,
    size: str | Size | None = None,
    batch: int = 8,
    progress: bool = False,
) -> Iterator[tuple[Plant, xr.Dataset]]:
    """Scores of images with outliers planted after the first of `layers`, for each count in turn.

    Detectors that learn did so on the images as they are: `fitted`, or the first of them.

    Patches that are outliers of the model's own (norm above 3 x the median, our choice) are taken out of `inside`:
    a detector that finds them is not wrong, and they are not what was planted. At the very layer where they are put,
    detectors that look at what comes before the block's output, such as its attention, can't see them: their scores
    are nan there, and they mark nothing.
    """
    if not counts:
        return
    depth = backbone.depth
    first = min(resolve_layer(layer, depth) for layer in layers) if layers else 1 + depth // 2
    later = [layer for layer in layers or range(1, depth + 1) if resolve_layer(layer, depth) >= first]
    vector = planted_vector(backbone, images, first, size=size)
    if fitted is None:
        fitted = fit_detectors(backbone, images, detectors, layers=later, size=size)
    options: dict[str, Any] = {"layers": later, "fitted": fitted, "size": size, "batch": batch, "progress": progress}
    stock = score_images(backbone, images, ["relative-norm"], **options)
    natural = stock["marked"].isel(detector=0).any("layer")
    for count in counts:
        plant = Plant(vector=vector, layers=(first,), count=count, clustered=clustered, seed=seed)
        scores = score_images(backbone, images, detectors, plant=plant, **options)
        scores["inside"] = scores["inside"] & (scores["planted"] | ~natural.values)
        blind = [spec for spec, part in named_detectors(detectors).items() if "block_out" not in part.needs]
        if first in scores["layer"].values:
            where = {"detector": blind, "layer": first}
            scores["score"].loc[where], scores["marked"].loc[where] = np.nan, False
        yield plant, scores


def planted_truth(
    backbone: Backbone, images: Any, detectors: Detectors, counts: Sequence[int], **options: Any
) -> pd.DataFrame:
    """Detectors against planted outliers: `truth_table` for each count, with columns `planted` and `clustered`.

    `options` are those of `planted_scores`.
    """
    tables = [
        truth_table(scores, scores["planted"]).assign(planted=plant.count, clustered=plant.clustered)
        for plant, scores in planted_scores(backbone, images, detectors, counts, **options)
    ]
    return pd.concat(tables, ignore_index=True)


def planted_vector(backbone: Backbone, images: Any, layer: int, *, size: str | Size | None = None) -> tuple[float, ...]:
    """What to plant after a layer: the model's own outlier there, or one made of its two largest channels.

    Where the first images have no outlier of their own, the two channels of largest peak get ten times the median
    patch norm (our choice).
    """
    listed = list_images(images, size_for(backbone, size), strict=False)
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size)
    opened = [item.image for item in map(loader, range(min(IMAGES_TO_FIT, len(listed)))) if item.image is not None]
    pixels = torch.stack([image for image in opened if image.shape == opened[0].shape])
    try:
        return outlier_vector(backbone, pixels, layer)
    except ValueError:
        with torch.no_grad():
            tokens = backbone.trunk(pixels, stop=layer)
        patches = backbone.layout(pixels).patches(tokens).float()
        channels = patches.abs().amax(dim=(0, 1)).topk(2).indices.tolist()
        norm = 10 * float(median_norm(token_norms(patches)).median())
        return channel_vector(backbone.width, tuple(channels), norm)


def threshold_table(
    scores: xr.Dataset,
    *,
    thresholds: Thresholds = THRESHOLDS,
    truth: xr.DataArray | None = None,
    places: xr.Dataset | None = None,
) -> pd.DataFrame:
    """How many tokens each threshold marks: a row for each detector, layer and threshold.

    Columns: `tokens` (mean of an image), `images` (share with any), `own` (the detector's own rule; its threshold is
    nan where it has a quota). `first_layer` is the first at which half the images have a marked token, nan if none.
    `thresholds`: how many of a sweep, which lie among the scores of all layers (`sweep_shares`); or the thresholds
    themselves, for all detectors or by spec. The detector's own is added.
    With `truth` (image, row, col) also `precision`, `recall` and `f1`, over the tokens of all images; nan where
    undefined. With `places`, from `patch_places`, also what `where_marked` tells of the marked tokens, and of all
    tokens with `_all` behind the name: the base rates.
    """
    rows: list[dict[str, Any]] = []
    inside = scores["inside"].transpose("image", "row", "col").values
    everything = {} if places is None else {f"{k}_all": v.item() for k, v in where_marked(inside, places).items()}
    real = None if truth is None else truth.transpose("image", "row", "col").values
    for spec in scores["detector"].values:
        here = scores.sel(detector=spec)
        values, own = (here[name].transpose("layer", "image", "row", "col").values for name in ("score", "marked"))
        sweep = _sweep(thresholds, str(spec), values[np.isfinite(values)])
        for threshold, marked, is_own in [
            *((float(t), values > t, False) for t in sweep),
            (float(here["threshold"]), own, True),
        ]:
            counts = marked.sum(axis=(-2, -1))  # layer, image
            fires = (counts > 0).mean(axis=1)
            early = np.flatnonzero(fires >= 0.5)
            first = float(scores["layer"].values[early[0]]) if early.size else np.nan
            where = {} if places is None else where_marked(marked, places)
            for place, layer in enumerate(scores["layer"].values):
                rows.append(
                    {
                        "detector": str(spec),
                        "layer": int(layer),
                        "threshold": threshold,
                        "own": is_own,
                        "tokens": float(counts[place].mean()),
                        "images": float(fires[place]),
                        "first_layer": first,
                        **({} if real is None else _against(marked[place], real, inside)),
                        **{name: found[place] for name, found in where.items()},
                        **everything,
                    }
                )
    return pd.DataFrame(rows)


def _sweep(thresholds: Thresholds, spec: str, known: np.ndarray) -> np.ndarray:
    """The thresholds of one detector, ascending; `known` are its finite scores."""
    if isinstance(thresholds, Mapping):
        thresholds = thresholds.get(spec, ())
    if isinstance(thresholds, int) and not isinstance(thresholds, bool) and thresholds > 0:
        return np.unique(np.quantile(known, sweep_shares(thresholds, known.size))) if known.size else np.array([])
    listed = isinstance(thresholds, Iterable) and not isinstance(thresholds, str)
    given = list(thresholds) if listed else [thresholds]  # type: ignore[arg-type]
    bad = [one for one in given if isinstance(one, bool) or not isinstance(one, numbers.Real) or not np.isfinite(one)]
    if bad or not listed:
        raise ValueError(
            f"`thresholds` should be how many to sweep, such as {THRESHOLDS}, or finite numbers such as [50, 100], or "
            f"such numbers by detector; got {(bad or given)[0]!r} for `{spec}`."
        )
    return np.unique(np.array(given, dtype=float))


def sweep_shares(thresholds: int, count: int) -> np.ndarray:
    """Quantiles of a sweep: half at even steps up to 0.95, half ever closer to 1, where few outliers decide.

    Our choice. `count` scores leave room up to the last but one.
    """
    even = thresholds - thresholds // 2
    top = 1 - np.geomspace(0.05, min(1 / max(count, 2), 0.05), thresholds // 2)
    return np.concatenate([np.linspace(0, 0.95, even, endpoint=False), top])


def _against(marked: np.ndarray, real: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Precision, recall and F1 of marks against truth, among the patches inside."""
    marked, real = marked & inside, real & inside
    hits, said, there = float((marked & real).sum()), float(marked.sum()), float(real.sum())
    return {
        "precision": hits / said if said else np.nan,
        "recall": hits / there if there else np.nan,
        "f1": 2 * hits / (said + there) if said + there else np.nan,
    }


def agreement_table(scores: xr.Dataset) -> pd.DataFrame:
    """Do detectors agree? A row for each two detectors and layer.

    `jaccard`: common over all marked tokens by the detectors' own thresholds, over all images; nan where neither
    marks any. `spearman`: rank correlation of scores within an image, mean over images.
    """
    rows = []
    for first, second in itertools.combinations(scores["detector"].values, 2):
        for layer in scores["layer"].values:
            one, other = (scores.sel(detector=spec, layer=layer) for spec in (first, second))
            union = (one["marked"] | other["marked"]).sum().item()
            common = (one["marked"] & other["marked"]).sum().item()
            ranks = [
                spearmanr(a[where], b[where]).statistic
                for a, b, where in zip(one["score"].values, other["score"].values, scores["inside"].values, strict=True)
                if np.ptp(a[where]) > 0 and np.ptp(b[where]) > 0
            ]
            rows.append(
                {
                    "detector": str(first),
                    "other": str(second),
                    "layer": int(layer),
                    "jaccard": common / union if union else np.nan,
                    "spearman": float(np.mean(ranks)) if ranks else np.nan,
                }
            )
    return pd.DataFrame(rows, columns=["detector", "other", "layer", "jaccard", "spearman"])


def truth_table(scores: xr.Dataset, truth: xr.DataArray) -> pd.DataFrame:
    """Detectors against known places: a row for each detector and layer, over the patches of all images.

    `truth` is bool with dims image, row, col, and layer if it changes with the layer. `auc` and `average_precision` as
    in scikit-learn; `best_f1` and the `best_threshold` that reaches it (marked is score > threshold); `own_precision`
    and `own_recall` of the detector's own rule. nan where there is nothing to find, or nothing else, and for scores
    that are nan.
    """
    rows = []
    inside = scores["inside"].values
    for spec in scores["detector"].values:
        for layer in scores["layer"].values:
            here = scores.sel(detector=spec, layer=layer)
            at = truth.sel(layer=layer) if "layer" in truth.dims else truth
            real = at.transpose("image", "row", "col").values.astype(bool)[inside]
            score, marked = here["score"].values[inside], here["marked"].values[inside]
            row: dict[str, Any] = {"detector": str(spec), "layer": int(layer), "outliers": int(real.sum())}
            whole = bool(np.isfinite(score).all())
            if real.any() and not real.all() and whole:
                f1, threshold = best_f1(real, score)
                row |= {
                    "auc": float(roc_auc_score(real, score)),
                    "average_precision": float(average_precision_score(real, score)),
                    "best_f1": f1,
                    "best_threshold": threshold,
                }
            if real.any() and whole:
                row["own_recall"] = float((marked & real).sum() / real.sum())
            if marked.any():
                row["own_precision"] = float((marked & real).sum() / marked.sum())
            rows.append(row)
    columns = ["detector", "layer", "outliers", "auc", "average_precision", "best_f1", "best_threshold"]
    return pd.DataFrame(rows).reindex(columns=[*columns, "own_recall", "own_precision"])


def best_f1(real: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """The largest F1 of «score > threshold», and a threshold that reaches it: halfway to the next lower score."""
    precision, recall, thresholds = precision_recall_curve(real, score)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())
    below = score[score < thresholds[best]]
    # scikit-learn counts score >= threshold; between two scores both readings are the same.
    lower = float(below.max()) if below.size else float(thresholds[best]) - 1.0
    return float(f1[best]), (float(thresholds[best]) + lower) / 2
