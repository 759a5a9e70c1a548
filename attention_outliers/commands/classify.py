"""`outliers classify`: what an image shows, by the class token, with and without its outliers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from attention_outliers.commands.options import (
    BackboneSpec,
    Batch,
    Device,
    Images,
    Positions,
    Precision,
    SizeText,
    Strict,
    backbone_of,
    layers_of,
)
from attention_outliers.commands.output import tell_left_out, tell_note
from attention_outliers.commands.tables import as_rich
from attention_outliers.commands.words import (
    BackgroundClass,
    Classes,
    ClassesFile,
    Combine,
    Repeats,
    Rows,
    Separator,
    Templates,
    words_of,
)
from diagnostics.images.image_classes import read_classes
from diagnostics.registry import split_specs


def classify(
    images: Images,
    classes: Classes = None,
    classes_file: ClassesFile = None,
    separator: Separator = "auto",
    background_class: BackgroundClass = None,
    repeats: Repeats = False,
    backbone: BackboneSpec = "pocket",
    templates: Templates = "photo-of",
    rows: Rows = None,
    combine: Combine = "mean",
    detector: Annotated[
        str, typer.Option("--detector", "-d", help="What finds the outliers; see `outliers list detectors`.")
    ] = "som",
    purifier: Annotated[
        str,
        typer.Option(
            "--purifier",
            "-p",
            help="What purifies them, one or several, or nothing: ''. See `outliers list purifiers`.",
        ),
    ] = "sfp-sum",
    layers: Annotated[
        str | None, typer.Option("--layers", help="After which blocks, such as 6-11. All by default.")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option("--truth", help="CSV of image,class, or a JSON object of them: prints top-1 and top-K accuracy."),
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes to name for each image.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Parquet or CSV file for all answers.")] = None,
    size: SizeText = None,
    batch: Batch = 8,
    device: Device = "auto",
    precision: Precision = "fp32",
    positions: Positions = None,
    strict: Strict = False,
) -> None:
    """Zero-shot classification by the class token: as the model is, and with its outliers purified on the way.

    Outliers carry what the image shows as a whole, so purifying them can cost accuracy: SFP's supplement, Table 3.

    Example: outliers classify photos/ --classes "cat, dog, horse" --purifier sfp-sum,neighbor-mean
    """
    import segment.classify

    model = backbone_of(backbone, device, precision, positions)
    console = Console()
    tell_note(model)
    text = words_of(
        model,
        classes,
        classes_file,
        None,
        templates,
        rows,
        separator=separator,
        background_class=background_class,
        repeats=repeats,
        combine=combine,
    )
    answers, left_out = segment.classify.classify(
        model,
        images,
        text,
        detector=detector,
        purifiers=split_specs(purifier),
        layers=layers_of(layers),
        truth=None if truth is None else read_classes(truth),
        top=top,
        size=size,
        batch=batch,
        strict=strict,
        progress=True,
    )
    _tell(console, answers)
    if truth is not None:
        console.print(as_rich(segment.classify.accuracy_table(answers), title="accuracy"))
    tell_left_out(left_out)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        answers.to_csv(out, index=False) if out.suffix == ".csv" else answers.to_parquet(out, index=False)
        console.print(f"answers: {out}", markup=False, highlight=False, soft_wrap=True)


MOST_IMAGES = 20  # rows of the table


def _tell(console: Console, answers: pd.DataFrame) -> None:
    """The best answers of the first images, one column a way."""
    ways = list(dict.fromkeys(answers["way"]))
    table = Table(title="likeliest classes")
    table.add_column("image")
    for way in ways:
        table.add_column(way)
    images = list(dict.fromkeys(answers["name"]))
    for name in images[:MOST_IMAGES]:
        cells = []
        for way in ways:
            part = answers[(answers["name"] == name) & (answers["way"] == way)].head(3)
            cells.append(", ".join(f"{c} {p:.2f}" for c, p in zip(part["class"], part["probability"], strict=True)))
        table.add_row(name, *cells)
    if len(images) > MOST_IMAGES:
        table.caption = f"and {len(images) - MOST_IMAGES} more; --out writes all"
    console.print(table)
