"""The main job on drawn scenes, as a page, without a network: measure, find, purify, segment."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import diagnostics
from figures.view.text_page import Section, write_page

if TYPE_CHECKING:
    from diagnostics import Backbone
    from segment.datasets.base import Dataset, Sample
    from segment.method import TextFeatures

# Takes a table and its title as soon as they are there.
Show = Callable[[pd.DataFrame, str], None]

PLAIN, PLANTED = "pocket", "pocket:planted"
PROBED = 24  # scenes that are measured: enough for steady medians in a few seconds
DRAWN = 3  # scenes that are drawn
DETECTORS = (
    "norm", "relative-norm", "norm-topk", "massive", "channel-peak", "som", "som-release", "lof", "lof-release",
    "class-residual", "received-attention", "stripe", "attention-rank1", "random",
)  # fmt: skip
METHODS = (
    "clip",
    "maskclip",
    "sclip",
    "clearclip",
    "naclip",
    "clip-surgery",
    "gem",
    "cliptrase",
    "sc-clip",
    "sfp",
)
# What purifies the planted outliers on the way: the norm tells them, their neighbors fill them.
DETECTOR, PURIFIER = "relative-norm", "neighbor-mean"


def demo_page(folder: Path, scenes: int, show: Show, *, progress: bool = True) -> tuple[Path, Path]:
    """Writes `index.html` and `view.html` into the folder and returns their paths; `show` gets every table."""
    from attention_outliers.view_page import view_page
    from segment.datasets.shapes import Shapes

    folder.mkdir(parents=True, exist_ok=True)
    plain, planted = (diagnostics.load_backbone(spec) for spec in (PLAIN, PLANTED))
    world = Shapes(scenes=max(scenes, PROBED))
    samples = [world[number] for number in range(PROBED)]
    sections = [
        _measured(show, planted, samples, folder, progress),
        _detected(show, planted, samples, folder),
        _segmented(show, plain, planted, world, scenes, folder, progress),
    ]
    view = folder / "view.html"
    images = [sample.image for sample in samples[:2]]
    view_page(planted, images, view, methods=["clip", "clearclip", "sc-clip"], text=_words(planted, world.names))
    page = folder / "index.html"
    write_page(page, "What attention-outliers does, on the model inside the package", _intro(), sections)
    return page, view


def _intro() -> list[str]:
    return [
        "pocket is a small CLIP, trained by this project on drawn scenes and their captions. pocket:planted is the "
        "same with outliers written into its weights, at places that are known. What is seen here is true of these "
        "two models; it is no evidence about CLIP.",
        "Every table below was measured while this page was made. view.html, beside it, lets you point at patches.",
    ]


def _words(backbone: Backbone, names: tuple[str, ...]) -> TextFeatures:
    from segment.text.features import text_features

    return text_features(backbone, list(names), progress=False)


def _measured(show: Show, backbone: Backbone, samples: list[Sample], folder: Path, progress: bool) -> Section:
    """Every layer of the planted model, as a table, curves, and the maps of one scene."""
    from figures.curves.layer_curves import layer_overview
    from figures.figure_files import write
    from figures.maps.layer_maps import maps_over_layers

    store = folder / "probe.zarr"
    # Always made anew, so that a demo of last month's model is not in the way.
    shutil.rmtree(store, ignore_errors=True)
    dataset = diagnostics.probe(
        backbone,
        [sample.image for sample in samples],
        labels=[sample.labels for sample in samples],
        out=store,
        progress=progress,
    )
    layers = diagnostics.layer_table(dataset)
    show(layers, f"{len(samples)} scenes, {backbone.spec}")
    images = [
        (write(layer_overview(dataset), folder / "layers.png")[0], "measurements layer by layer"),
        (
            write(maps_over_layers(dataset, pixels=samples[0].image), folder / "maps.png")[0],
            "norm and attention of every patch of one scene, layer by layer",
        ),
    ]
    return Section(
        title="1. Look inside: every layer, measured",
        text=[
            f"{len(samples)} scenes through {backbone.spec}. A few tokens take on a large norm in the middle layers; "
            "the entropy of the residual stream falls there, and later layers attend to them."
        ],
        tables=[layers],
        images=images,
    )


def _detected(show: Show, backbone: Backbone, samples: list[Sample], folder: Path) -> Section:
    """All detectors against the planted places."""
    import torch
    import xarray as xr

    from diagnostics.backbones.pocket import planted_unit
    from diagnostics.backbones.pocket.planted import planted_patches
    from diagnostics.images import normalize
    from diagnostics.studies.scoring import score_images
    from diagnostics.studies.truth import truth_table
    from figures.figure_files import write
    from figures.maps.score_maps import score_maps

    images = np.stack([sample.image for sample in samples])
    ready = normalize(torch.from_numpy(images).permute(0, 3, 1, 2) / 255, backbone.mean, backbone.std)
    unit = planted_unit()
    layers = sorted({unit[0], backbone.depth - 1})
    scores = score_images(backbone, list(images), DETECTORS, layers=layers)
    mask = backbone.layout(ready).to_map(planted_patches(backbone, ready, unit)).numpy()
    truth = xr.DataArray(mask, dims=("image", "row", "col"))
    table = truth_table(scores, truth)
    columns = {"auc": "AUC", "best_f1": "F1", "best_threshold": "at"}
    parts = [
        table[table["layer"] == layer]
        .set_index("detector")[list(columns)]
        .rename(columns={old: f"{new} {layer}" for old, new in columns.items()})
        for layer in layers
    ]
    shown = pd.concat(parts, axis=1).loc[list(DETECTORS)]
    show(shown, f"detectors against {int(mask.sum())} planted outliers")
    name = str(scores["image"].values[0])
    figure = score_maps(scores.assign(planted=truth.assign_coords(image=scores["image"])), name, pixels=images[0])
    return Section(
        title="2. Find: every detector, against known places",
        text=[
            f"The places of the outliers of {backbone.spec} are known: {mask.sum() / len(samples):.1f} a scene. AUC is "
            "the chance that an outlier scores above an ordinary patch; F1 is what the best threshold could reach, and "
            "«at» says where it lies. The number behind is the layer."
        ],
        tables=[shown],
        images=[(write(figure, folder / "detectors.png")[0], "scores of every detector on one scene")],
    )


def _segmented(
    show: Show, plain: Backbone, planted: Backbone, world: Dataset, scenes: int, folder: Path, progress: bool
) -> Section:
    """Methods by mIoU: as trained, with outliers, and with these purified."""
    from figures.figure_files import write
    from figures.maps.label_maps import method_sheet
    from segment.evaluation.metrics.by_method import miou_by_method
    from segment.evaluation.score_methods import score_methods
    from segment.one_image import segment_one

    purified = [f"{name}:detector={DETECTOR},purifier={PURIFIER}" for name in METHODS]
    kept = [f"{name}:purifier=keep" for name in METHODS]
    text = _words(plain, world.names)
    before = score_methods(plain, world, METHODS, text=text, limit=scenes, progress=progress).table()
    after = score_methods(planted, world, [*kept, *purified], text=text, limit=scenes, progress=progress).table()
    table = pd.DataFrame(
        {
            PLAIN: before.loc[list(METHODS), "mIoU"].to_numpy(),
            PLANTED: after.loc[kept, "mIoU"].to_numpy(),
            "purified": after.loc[purified, "mIoU"].to_numpy(),
        },
        index=pd.Index(METHODS, name="method"),
    )
    show(table, f"mIoU over {len(world.names)} classes, {scenes} scenes")
    images = []
    for number in range(DRAWN):
        sample = world[number]
        labels = segment_one(plain, sample.image, text, METHODS, windows="whole", size="native")
        scores = miou_by_method(labels, sample.labels, len(world.names))
        sheet = method_sheet(sample.image, labels, world.names, truth=sample.labels, scores=scores)
        images.append((write(sheet, folder / f"methods-{number}.png")[0], f"label maps of scene {number}"))
    return Section(
        title="3. Purify and segment: ten methods, with and without outliers",
        text=[
            f"Mean IoU over {scenes} scenes. First column: {PLAIN}, every method as released. Second: {PLANTED}, with "
            f"no purification. Third: {DETECTOR} finds and {PURIFIER} purifies the tokens that methods look at. The "
            f"label maps are those of {PLAIN}."
        ],
        tables=[table],
        images=images,
    )
