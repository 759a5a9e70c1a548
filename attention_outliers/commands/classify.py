"""`outliers classify`: what an image shows, by the class token, with and without its outliers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.fit import check_fit
from attention_outliers.commands.options import (
    Images,
    LayersText,
    Model,
    Passes,
    ProfileFile,
    check_inputs,
    check_parts,
    layers_of,
    profile_spec,
    specs_of,
)
from attention_outliers.commands.output import Output
from attention_outliers.commands.tables import Table
from attention_outliers.commands.words import (
    ClassEmbeddings,
    Classes,
    ClassFile,
    Templates,
    check_names,
    vocabulary_of,
    words_of,
)
from diagnostics.local_path import local_path

if TYPE_CHECKING:
    import pandas as pd

MOST_IMAGES = 20  # rows of the printed table
MOST_CLASSES = 3  # in a cell of it


DetectorOption = Annotated[
    str,
    typer.Option(
        "--detector",
        "-d",
        autocompletion=complete.detectors,
        help="What finds the outliers; see `outliers list detectors`.",
    ),
]
PurifierOption = Annotated[
    str,
    typer.Option(
        "--purifier",
        "-p",
        autocompletion=complete.purifiers,
        help="What purifies them, one or several, or nothing: ''. See `outliers list purifiers`.",
    ),
]
TruthOption = Annotated[
    Path | None,
    typer.Option("--truth", help="CSV of image,class, or a JSON object of them: prints top-1 and top-K accuracy."),
]
TopOption = Annotated[int, typer.Option("--top", min=1, help="How many classes to name for each image.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", help="Parquet or CSV file for all answers.")]


def classify(
    images: Images,
    *,
    classes: Classes = None,
    detector: DetectorOption = "som",
    purifier: PurifierOption = "sfp-sum",
    layers: LayersText = None,
    profile: ProfileFile = None,
    truth: TruthOption = None,
    top: TopOption = 5,
    out: OutOption = None,
    templates: Templates = "photo-of",
    embeddings: ClassEmbeddings = None,
    file: ClassFile,
    model: Model,
    passes: Passes,
    show: Output,
) -> None:
    """Zero-shot classification by the class token: as the model is, and with its outliers purified on the way.

    Outliers carry what the image shows as a whole, so purifying them can cost accuracy: SFP's supplement, Table 3.

    Example: outliers classify photos/ --classes "cat, dog, horse" --purifier sfp-sum,neighbor-mean
    """
    check_names(classes, file)
    check_inputs(images, truth=truth, class_embeddings=embeddings)
    chosen, out = layers_of(layers), None if out is None else local_path(out)
    if profile is not None:
        detector, purifier, chosen = _by_profile(profile, purifier, chosen)
    check_parts(detectors=[detector], purifiers=specs_of(purifier))
    options = passes.options(show, chosen)
    from diagnostics.detectors import DETECTORS
    from diagnostics.images.image_classes import read_classes
    from segment.classify import accuracy_table
    from segment.classify import classify as run

    check_fit(model, images, passes.size, [DETECTORS.build(detector)] if specs_of(purifier) else [])
    shown = None if truth is None else read_classes(truth)
    vocabulary, backbone = vocabulary_of(classes, file), model.load(show)
    answers, left_out = run(
        backbone,
        images,
        words_of(backbone, vocabulary, templates, embeddings, file.combine, progress=show.progress),
        detector=detector,
        purifiers=specs_of(purifier),
        truth=shown,
        top=top,
        options=options,
    )
    show.table("likeliest", _likeliest(answers))
    show.record["answers"] = answers.to_dict("records")
    if truth is not None:
        show.table("accuracy", accuracy_table(answers), "accuracy")
    show.left_out(left_out)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        answers.to_csv(out, index=False) if out.suffix == ".csv" else answers.to_parquet(out, index=False)
        show.path("answers", out)


def _by_profile(file: Path, purifier: str, layers: list[int] | None) -> tuple[str, str, list[int] | None]:
    """Detector, purifiers and layers of a profile: its first layer with outliers, and no purifier where it has none."""
    from diagnostics.profile_file import read_profile

    detector, first = profile_spec(file), read_profile(file)["first_layer"]
    if layers is None and first is None:
        return detector, "", None
    return detector, purifier, layers or [int(first)]


def _likeliest(answers: pd.DataFrame) -> Table:
    """The best answers of the first images, one column a way."""
    ways, names = (list(dict.fromkeys(answers[column])) for column in ("way", "name"))
    rows = []
    for name in names[:MOST_IMAGES]:
        row = [name]
        for way in ways:
            best = answers[(answers["name"] == name) & (answers["way"] == way)].head(MOST_CLASSES)
            row.append(", ".join(f"{c} {p:.2f}" for c, p in zip(best["class"], best["probability"], strict=True)))
        rows.append(row)
    more = len(names) - MOST_IMAGES
    return Table(
        heads=["image", *ways],
        rows=rows,
        title="likeliest classes",
        caption=f"and {more} more images; --out writes all" if more > 0 else "",
    )
