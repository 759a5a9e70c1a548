"""`outliers segment`: label maps of images, by words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from attention_outliers.commands.options import (
    BackboneSpec,
    Device,
    Images,
    Positions,
    Precision,
    Strict,
    backbone_of,
)
from attention_outliers.commands.output import tell_left_out, tell_note
from attention_outliers.commands.words import (
    Background,
    BackgroundClass,
    Classes,
    ClassesFile,
    Combine,
    Repeats,
    Rows,
    Separator,
    Templates,
    vocabulary_of,
)
from diagnostics.registry import split_specs


def segment(
    images: Images,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for label maps, overlays and their JSON.")],
    classes: Classes = None,
    classes_file: ClassesFile = None,
    separator: Separator = "auto",
    background: Background = None,
    background_class: BackgroundClass = None,
    repeats: Repeats = False,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-M",
            help="One method or several, such as clip,clearclip,sc-clip:detector=som,purifier=median; "
            "see `outliers list methods`. Several share the forward pass and end on one sheet.",
        ),
    ] = "sc-clip",
    backbone: BackboneSpec = "pocket",
    templates: Templates = "openai-80",
    rows: Rows = None,
    combine: Combine = "mean",
    windows: Annotated[
        str,
        typer.Option(
            "--windows", help="slide, slide:crop=224,stride=112, whole, or center; see `outliers list windows`."
        ),
    ] = "slide",
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Size the image is brought to before windows are cut: short:336, 224, WxH, native. The windows' own "
            "choice by default.",
        ),
    ] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Factor of the cosines before the softmax.")] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Pixels whose best probability is below become background."),
    ] = None,
    smallest_area: Annotated[
        float | None,
        typer.Option("--smallest-area", help="Classes of at most this share of the foreground are taken out."),
    ] = None,
    refine: Annotated[
        str, typer.Option("--refine", help="none, pamr, pamr:iterations=10, …; see `outliers list refiners`.")
    ] = "none",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Windows in one forward pass.")] = 8,
    device: Device = "auto",
    precision: Precision = "fp32",
    positions: Positions = None,
    strict: Strict = False,
    overlays: Annotated[bool, typer.Option(help="Draw the labels over the image, with a legend.")] = True,
) -> None:
    """Give every pixel of images one of the classes that you name.

    OUT/METHOD/NAME.labels.png is the label map (palette PNG; 16 bit past 255 classes), NAME.overlay.png the same over
    the image, NAME.json areas, confidence and every setting; OUT/sheets has several methods side by side. A run that
    was stopped goes on where it was.

    Example: outliers segment photos/ --classes "cat, dog, grass" --method clip,clearclip,sc-clip --out labels/
    """
    from dataclasses import replace

    from attention_outliers.overlays import write_overlays
    from segment.methods import METHODS
    from segment.run import SegmentRun
    from segment.segmenter import Segmenter
    from segment.text.features import text_features

    model = backbone_of(backbone, device, precision, positions)
    console = Console()
    tell_note(model)
    vocabulary = vocabulary_of(
        classes, classes_file, background, separator=separator, background_class=background_class, repeats=repeats
    )
    text = text_features(model, vocabulary, templates, rows=rows, combine=combine)
    asked = {"scale": scale, "threshold": threshold, "smallest_area": smallest_area}
    given = {name: value for name, value in asked.items() if value is not None}
    methods = [METHODS.build(spec) for spec in split_specs(method)]
    methods = [replace(one, decode=replace(one.decode, **given)) for one in methods]
    segmenter = Segmenter(
        model,
        methods,
        text,
        windows=windows,
        size=size,
        refine=refine,
        positions=positions,
        batch=batch,
        strict=strict,
    )
    about = {"queries": vocabulary.classes, "templates": templates, "combine": combine}
    run = SegmentRun(segmenter, images, out, about=about, progress=True)
    area = {one: np.zeros(len(text.names)) for one in run.methods}
    done = 0
    for found in run:
        if overlays:
            write_overlays(run, found)
        for one in found:
            area[one.method] += one.areas
        done += 1
    _report(console, area, text.names, done)
    tell_left_out(run.left_out)
    console.print(f"label maps: {out}", markup=False, highlight=False, soft_wrap=True)


MOST_CLASSES = 20  # rows of the table at the end


def _report(console: Console, area: dict[str, np.ndarray], names: tuple[str, ...], done: int) -> None:
    """The largest classes of this run, by method."""
    if not done:
        console.print("nothing is left to do: the images that can be read were done already.")
        return
    total = sum(area.values())
    table = Table(title=f"mean share of the pixels over {done} images")
    table.add_column("class")
    for one in area:
        table.add_column(one, justify="right")
    order = [number for number in np.argsort(-np.asarray(total)) if np.asarray(total)[number] > 0]
    for number in order[:MOST_CLASSES]:
        table.add_row(names[number], *(f"{values[number] / done:.3f}" for values in area.values()))
    if len(order) > MOST_CLASSES:
        table.caption = f"and {len(order) - MOST_CLASSES} more classes"
    console.print(table)
