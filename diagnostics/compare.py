"""Detectors side by side: which patches each marks, whether they agree, and how they stand against known truth.

One forward pass a picture serves all detectors, layers and thresholds: scores are kept, thresholds are put on them
afterwards.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from diagnostics.feed import Loaded, Loader, in_batches, list_pictures, opened_ahead, progress_bar, size_for, stacked
from diagnostics.images import Size
from diagnostics.layout import Layout, grid_of
from diagnostics.measures.norms import median_norm, token_norms
from diagnostics.taps import Recording, chain, resolve_layer

# Pictures from which detectors learn that have something to learn. Our choice; the released code takes 100 to 500.
PICTURES_TO_FIT = 32
# Thresholds of a sweep. Our choice.
THRESHOLDS = 20


@dataclass
class _Scorer:
    """A tap that lets every detector score the layers asked for, and drops what it saw."""

    detectors: dict[tuple[str, int], Detector]
    layers: frozenset[int]
    layout: Layout
    seen: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    scores: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    masks: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    depth: int = 0

    def start(self, depth: int, layout: Layout | None = None) -> None:
        self.depth = depth

    def wants(self, name: str, layer: int) -> bool:
        needs = (detector.needs for (_, at), detector in self.detectors.items() if at == layer)
        return layer in self.layers and (name == "block_out" or any(name in taps for taps in needs))

    def __call__(self, name: str, layer: int, value: Tensor) -> Tensor:
        self.seen[name, layer] = value
        if name == "block_out":
            recording = Recording(self.depth, self.seen)
            for (spec, at), detector in self.detectors.items():
                if at == layer:
                    began = time.perf_counter()
                    found = detector(recording, self.layout)
                    self.scores[spec, layer], self.masks[spec, layer] = found.scores.cpu(), found.mask.cpu()
                    self.seconds[spec] = self.seconds.get(spec, 0.0) + time.perf_counter() - began
            self.seen.clear()
        return value


def score_pictures(
    backbone: Backbone,
    pictures: Any,
    detectors: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    plant: Plant | None = None,
    size: str | Size | None = None,
    batch: int = 8,
    strict: bool = False,
    progress: bool = False,
) -> xr.Dataset:
    """Every detector's scores and marks for every patch, from one forward pass a picture.

    `detectors` are specs. The data set has `score` (float32) and `marked` (bool, by each detector's own threshold),
    dims detector, image, layer, row, col; with `plant` also `planted` (image, row, col), the truth; and `seconds`
    (detector), the time it took for a picture. Detectors that learn are fitted for each layer on the first pictures.
    Pictures of several sizes share one grid; `inside` (image, row, col) says which patches a picture has.
    """
    specs = list(dict.fromkeys(detectors))
    if not specs:
        raise ValueError(f"`detectors` should name at least one detector; known: {', '.join(DETECTORS)}.")
    chosen = sorted({resolve_layer(layer, backbone.depth) for layer in layers or range(1, backbone.depth + 1)})
    if chosen[0] == 0:
        raise ValueError(f"`layers` should be among 1…{backbone.depth} (or negative); got {list(layers or ())}.")
    shown = size_for(backbone, size)
    listed = list_pictures(pictures, shown, strict=strict)
    layouts = {
        Layout(backbone.prefix, grid_of(picture.size, backbone.patch_size), backbone.class_index)
        for picture in listed
        if not picture.reason
    }
    parts = {spec: DETECTORS.build(spec) for spec in specs}
    for spec, part in parts.items():
        for reason in filter(None, (part.refusal(layout) for layout in layouts)):
            raise ValueError(f"`{spec}` can't run on `{backbone.spec}`: {reason}.")
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size, strict=strict)
    ready = fitted_detectors(
        backbone, parts, chosen, loader, [n for n, picture in enumerate(listed) if not picture.reason]
    )
    rows, cols = (max(getattr(layout.grid, side) for layout in layouts) for side in ("rows", "cols"))
    shape = (len(specs), len(listed), len(chosen), rows, cols)
    score, marked = np.full(shape, np.nan, np.float32), np.zeros(shape, bool)
    inside, planted = np.zeros((len(listed), rows, cols), bool), np.zeros((len(listed), rows, cols), bool)
    seconds = dict.fromkeys(specs, 0.0)

    def work(some: list[Loaded]) -> None:
        images = stacked(some)
        scorer = _Scorer(ready, frozenset(chosen), backbone.layout(images))
        edit = plant and _with_pictures(plant, [item.number for item in some])
        with torch.no_grad():
            backbone.trunk(images, stop=chosen[-1], tap=chain(edit, scorer))
        grid = scorer.layout.grid
        for place, item in enumerate(some):
            inside[item.number, : grid.rows, : grid.cols] = True
            if edit:
                planted[item.number, : grid.rows, : grid.cols] = edit.places[place].cpu().reshape(tuple(grid)).numpy()
            for (spec, layer), values in scorer.scores.items():
                if not values[place].isfinite().all():
                    raise ValueError(
                        f"`{spec}` found tokens that are no numbers in `{listed[item.number].name}` at layer {layer}: "
                        "NaN or infinity. Take --precision fp32, or leave the picture out."
                    )
                at = (specs.index(spec), item.number, chosen.index(layer), slice(grid.rows), slice(grid.cols))
                score[at] = values[place].reshape(tuple(grid)).numpy()
                marked[at] = scorer.masks[spec, layer][place].reshape(tuple(grid)).numpy()
        for spec, spent in scorer.seconds.items():
            seconds[spec] += spent

    blocks = [range(start, min(start + batch, len(listed))) for start in range(0, len(listed), batch)]
    bar = progress_bar(f"score {backbone.spec}", len(listed), shown=progress)
    opened = np.zeros(len(listed), bool)
    with bar:
        for block, loaded in opened_ahead(blocks, loader):
            for some, _ in in_batches(loaded, batch, work):
                opened[[item.number for item in some]] = True
            bar.update(len(block))
    dims = ("detector", "image", "layer", "row", "col")
    dataset = xr.Dataset(
        {
            "score": (
                dims,
                score,
                {"units": "of each detector", "long_name": "outlier score, higher is more outlying"},
            ),
            "marked": (dims, marked, {"units": "1", "long_name": "marked by the detector's own threshold"}),
            "inside": (("image", "row", "col"), inside, {"units": "1", "long_name": "the picture has this patch"}),
            "seconds": (
                "detector",
                np.array([seconds[spec] for spec in specs]) / max(opened.sum(), 1),
                {"units": "second", "long_name": "time for one picture, all layers"},
            ),
        },
        coords={
            # Words of any length: fixed-length text has no agreed form in zarr yet.
            "detector": np.array(specs, dtype=object),
            "image": np.array([picture.name for picture in listed], dtype=object),
            "layer": chosen,
            "threshold": ("detector", [getattr(parts[spec], "threshold", np.nan) for spec in specs]),
        },
        attrs={"backbone": backbone.spec, "size": str(shown)},
    )
    if plant:
        dataset["planted"] = (
            ("image", "row", "col"),
            planted,
            {"units": "1", "long_name": "an outlier was planted here"},
        )
    return dataset.isel(image=np.flatnonzero(opened))


def _with_pictures(plant: Plant, numbers: Sequence[int]) -> Plant:
    return replace(plant, pictures=tuple(numbers))


def fitted_detectors(
    backbone: Backbone, parts: dict[str, Detector], layers: Sequence[int], loader: Loader, numbers: Sequence[int]
) -> dict[tuple[str, int], Detector]:
    """Each detector for each layer; those that learn do so on the first pictures of the most common size."""
    learners = [part for part in parts.values() if type(part).fitted is not Detector.fitted]
    images = torch.empty(0, 3, *backbone.native_size)
    if learners:
        opened = [item.image for item in map(loader, numbers[:PICTURES_TO_FIT]) if item.image is not None]
        shapes = [tuple(image.shape) for image in opened]
        common = max(set(shapes), key=shapes.count)
        images = torch.stack([image for image in opened if tuple(image.shape) == common])
    return {(spec, layer): part.fitted(backbone, images, layer) for layer in layers for spec, part in parts.items()}


def compare(
    backbone: Backbone,
    pictures: Any,
    detectors: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    thresholds: int = THRESHOLDS,
    planted: Sequence[int] = (),
    clustered: bool = False,
    seed: int = 0,
    size: str | Size | None = None,
    batch: int = 8,
    progress: bool = False,
) -> pd.DataFrame:
    """What each detector marks at each layer and threshold: a row for each, see `threshold_table`.

    `planted` counts of outliers put into every picture at the first of `layers` give further rows with `precision`,
    `recall` and `f1` against the known places; `planted` is 0 in the rows of the pictures as they are.
    """
    options: dict[str, Any] = {"layers": layers, "size": size, "batch": batch, "progress": progress}
    natural = score_pictures(backbone, pictures, detectors, **options)
    tables = [threshold_table(natural, thresholds=thresholds).assign(planted=0, clustered=False)]
    for plant, scores in planted_scores(
        backbone, pictures, detectors, planted, clustered=clustered, seed=seed, **options
    ):
        table = threshold_table(scores, thresholds=thresholds, truth=scores["planted"])
        tables.append(table.assign(planted=plant.count, clustered=plant.clustered))
    return pd.concat(tables, ignore_index=True)


def planted_scores(
    backbone: Backbone,
    pictures: Any,
    detectors: Sequence[str],
    counts: Sequence[int],
    *,
    clustered: bool = False,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    size: str | Size | None = None,
    batch: int = 8,
    progress: bool = False,
) -> Iterator[tuple[Plant, xr.Dataset]]:
    """Scores of pictures with outliers planted after the first of `layers`, for each count in turn.

    Patches that are outliers of the model's own (norm above 3 x the median, our choice) are taken out of `inside`:
    a detector that finds them is not wrong, and they are not what was planted.
    """
    if not counts:
        return
    depth = backbone.depth
    first = min(resolve_layer(layer, depth) for layer in layers) if layers else 1 + depth // 2
    later = [layer for layer in layers or range(1, depth + 1) if resolve_layer(layer, depth) >= first]
    vector = planted_vector(backbone, pictures, first, size=size)
    options: dict[str, Any] = {"layers": later, "size": size, "batch": batch, "progress": progress}
    stock = score_pictures(backbone, pictures, ["relative-norm"], **options)
    natural = stock["marked"].isel(detector=0).any("layer")
    for count in counts:
        plant = Plant(vector=vector, layers=(first,), count=count, clustered=clustered, seed=seed)
        scores = score_pictures(backbone, pictures, detectors, plant=plant, **options)
        scores["inside"] = scores["inside"] & (scores["planted"] | ~natural.values)
        yield plant, scores


def planted_truth(
    backbone: Backbone, pictures: Any, detectors: Sequence[str], counts: Sequence[int], **options: Any
) -> pd.DataFrame:
    """Detectors against planted outliers: `truth_table` for each count, with columns `planted` and `clustered`.

    `options` are those of `planted_scores`.
    """
    tables = [
        truth_table(scores, scores["planted"]).assign(planted=plant.count, clustered=plant.clustered)
        for plant, scores in planted_scores(backbone, pictures, detectors, counts, **options)
    ]
    return pd.concat(tables, ignore_index=True)


def planted_vector(
    backbone: Backbone, pictures: Any, layer: int, *, size: str | Size | None = None
) -> tuple[float, ...]:
    """What to plant after a layer: the model's own outlier there, or one made of its two largest channels.

    Where the first pictures have no outlier of their own, the two channels of largest peak get ten times the median
    patch norm (our choice).
    """
    listed = list_pictures(pictures, size_for(backbone, size), strict=False)
    loader = Loader(listed, backbone.mean, backbone.std, backbone.patch_size)
    opened = [item.image for item in map(loader, range(min(PICTURES_TO_FIT, len(listed)))) if item.image is not None]
    images = torch.stack([image for image in opened if image.shape == opened[0].shape])
    try:
        return outlier_vector(backbone, images, layer)
    except ValueError:
        with torch.no_grad():
            tokens = backbone.trunk(images, stop=layer)
        patches = backbone.layout(images).patches(tokens).float()
        channels = patches.abs().amax(dim=(0, 1)).topk(2).indices.tolist()
        norm = 10 * float(median_norm(token_norms(patches)).median())
        return channel_vector(backbone.width, tuple(channels), norm)


def threshold_table(
    scores: xr.Dataset, *, thresholds: int = THRESHOLDS, truth: xr.DataArray | None = None
) -> pd.DataFrame:
    """How many tokens each threshold marks: a row for each detector, layer and threshold.

    Columns: `tokens` (mean of a picture), `pictures` (share with any), `own` (the detector's own rule; its threshold is
    nan where it has a quota). Thresholds of a sweep lie among the scores of all layers (`sweep_shares`), the
    detector's own is added. `first_layer` is the first at which half the pictures have a marked token, nan if none.
    With `truth` (image, row, col) also `precision`, `recall` and `f1`, over the tokens of all pictures; nan where
    undefined.
    """
    rows: list[dict[str, Any]] = []
    for spec in scores["detector"].values:
        here = scores.sel(detector=spec)
        values = here["score"].values
        known = values[np.isfinite(values)]
        sweep = np.unique(np.quantile(known, sweep_shares(thresholds, known.size))) if known.size else np.array([])
        own = [(float(here["threshold"]), here["marked"].values, True)]
        for threshold, marked, is_own in [*((t, values > t, False) for t in sweep), *own]:
            counts = marked.sum(axis=(-2, -1))  # image, layer
            fires = (counts > 0).mean(axis=0)
            early = np.flatnonzero(fires >= 0.5)
            first = float(scores["layer"].values[early[0]]) if early.size else np.nan
            for place, layer in enumerate(scores["layer"].values):
                rows.append(
                    {
                        "detector": str(spec),
                        "layer": int(layer),
                        "threshold": float(threshold),
                        "own": is_own,
                        "tokens": float(counts[:, place].mean()),
                        "pictures": float(fires[place]),
                        "first_layer": first,
                        **({} if truth is None else _against(marked[:, place], truth.values, scores["inside"].values)),
                    }
                )
    return pd.DataFrame(rows)


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

    `jaccard`: common over all marked tokens by the detectors' own thresholds, over all pictures; nan where neither
    marks any. `spearman`: rank correlation of scores within a picture, mean over pictures.
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
    return pd.DataFrame(rows)


def truth_table(scores: xr.Dataset, truth: xr.DataArray) -> pd.DataFrame:
    """Detectors against known places: a row for each detector and layer, over the patches of all pictures.

    `truth` is bool with dims image, row, col, and layer if it changes with the layer. `auc` and `average_precision` as
    in scikit-learn; `best_f1` and the `best_threshold` that reaches it (marked is score > threshold); `own_precision`
    and `own_recall` of the detector's own rule. nan where there is nothing to find, or nothing else.
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
            if real.any() and not real.all() and np.isfinite(score).all():
                f1, threshold = best_f1(real, score)
                row |= {
                    "auc": float(roc_auc_score(real, score)),
                    "average_precision": float(average_precision_score(real, score)),
                    "best_f1": f1,
                    "best_threshold": threshold,
                }
            if real.any():
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
