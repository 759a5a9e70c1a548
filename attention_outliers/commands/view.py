"""`outliers view`: one page to look inside with, in a browser, without a server or a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from attention_outliers.commands import complete
from attention_outliers.commands.fit import check_fit
from attention_outliers.commands.options import (
    Images,
    LayersText,
    Model,
    ProfileFile,
    SizeText,
    Strict,
    check_inputs,
    check_parts,
    layers_of,
    profile_spec,
    profiled,
    specs_of,
)
from attention_outliers.commands.output import Output
from attention_outliers.commands.view_options import METHODS, LabelMaps

OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The page to write. By default IMAGE-BACKBONE.html, after the first image."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a page that exists.")]
DetectorsOption = Annotated[
    str | None,
    typer.Option(
        "--detectors",
        "-d",
        autocompletion=complete.detectors,
        help="Detectors of outliers, such as norm:threshold=100,lof; see `outliers list detectors`. By default "
        "relative-norm, lof, som, self-correlation and received-attention, those of them that can run.",
    ),
]
PurifierOption = Annotated[
    str,
    typer.Option(
        "--purifier",
        autocompletion=complete.purifiers,
        help="How outliers are purified; see `outliers list purifiers`.",
    ),
]
PurifiedByOption = Annotated[
    str | None,
    typer.Option(
        "--purified-by",
        autocompletion=complete.detectors,
        help="Which of --detectors marks what is purified. The first by default.",
    ),
]
HeadsOption = Annotated[
    Literal["all", "mean"], typer.Option("--heads", help="Attention of all heads, or their mean alone.")
]


def view(
    images: Images,
    *,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    detectors: DetectorsOption = None,
    purifier: PurifierOption = "neighbor-mean",
    purified_by: PurifiedByOption = None,
    profile: ProfileFile = None,
    layers: LayersText = None,
    heads: HeadsOption = "all",
    size: SizeText = None,
    strict: Strict = False,
    maps: LabelMaps,
    model: Model,
    show: Output,
) -> None:
    """Write one page to look inside with: point at any patch and see its attention, similarity and norm by layer.

    The page is one file of at most 15 MB. It needs no server and no network: open it, or send it. Where attention of
    all heads would be too much, it is reduced, and the page says so.

    Example: outliers view photo.jpg --classes "cat, dog, grass" --method clip,sc-clip --out page.html
    """
    check_inputs(images, classes_file=maps.classes_file, class_embeddings=maps.embeddings)
    from attention_outliers.view_page import page_name, view_page

    page = out or Path(page_name(images, model.backbone))
    if page.exists() and not overwrite:
        raise ValueError(f"`{page}` exists. Name another page with --out, or replace it with --overwrite.")
    vocabulary, chosen = maps.vocabulary(model.backbone), _detectors(detectors, profile)
    check_parts(detectors=chosen or (), purifiers=[purifier])
    from diagnostics.options import RunOptions
    from diagnostics.studies.image_report import WholeMaps

    options = RunOptions(layers=layers_of(layers), size=size, strict=strict)

    check_fit(model, images, size, [WholeMaps(len(options.layers or [1]))])
    backbone = model.load(show)
    reasons = view_page(
        backbone,
        images,
        page,
        detectors=chosen,
        purifier=purifier,
        purified_by=purified_by,
        methods=specs_of(profiled(maps.method or METHODS, profile)),
        text=None if vocabulary is None else maps.words(backbone, vocabulary, progress=show.progress),
        windows=maps.windows,
        heads=heads,
        options=options,
    )
    show.left_out(reasons)
    show.say(f"page: {page} ({page.stat().st_size / 1e6:.1f} MB)", page=page)


def _detectors(detectors: str | None, profile: Path | None) -> list[str] | None:
    """The detectors that are named; a profile comes before them, since the first one marks what is purified."""
    if profile is None:
        return None if detectors is None else specs_of(detectors)
    from attention_outliers.view_page import DETECTORS

    return [profile_spec(profile), *(DETECTORS if detectors is None else specs_of(detectors))]
