"""`outliers view`: one page to look inside with, in a browser, without a server or a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from attention_outliers.commands.options import (
    BackboneSpec,
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
from attention_outliers.commands.words import Background, Classes, ClassesFile, Rows, Templates, words_of
from attention_outliers.view_page import DETECTORS, METHODS, view_page
from diagnostics.registry import split_specs


def view(
    images: Images,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page to write.")] = Path("page.html"),
    backbone: BackboneSpec = "pocket",
    detectors: Annotated[
        str | None,
        typer.Option(
            "--detectors",
            "-d",
            help="Detectors of outliers, such as norm:threshold=100,lof; see `outliers list detectors`. "
            f"{', '.join(DETECTORS)} by default, those of them that can run.",
        ),
    ] = None,
    purifier: Annotated[
        str, typer.Option("--purifier", help="How outliers are purified; see `outliers list purifiers`.")
    ] = "neighbor-mean",
    purified_by: Annotated[
        str | None,
        typer.Option("--purified-by", help="Which of --detectors says what is purified. The first by default."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-M",
            help=f"Methods whose label maps are shown, such as clip,sc-clip. {METHODS} by default, where there are "
            "--classes.",
        ),
    ] = None,
    classes: Classes = None,
    classes_file: ClassesFile = None,
    background: Background = None,
    templates: Templates = "openai-80",
    rows: Rows = None,
    windows: Annotated[
        str, typer.Option("--windows", help="Windows of the label maps; see `outliers list windows`.")
    ] = "slide",
    layers: Annotated[
        str | None, typer.Option("--layers", help="Which layers, such as 1,6,8-11 or -2,-1. All by default.")
    ] = None,
    heads: Annotated[
        Literal["all", "mean"], typer.Option("--heads", help="Attention of all heads, or their mean alone.")
    ] = "all",
    size: SizeText = None,
    device: Device = "auto",
    precision: Precision = "fp32",
    positions: Positions = None,
    strict: Strict = False,
) -> None:
    """Write one page to look inside with: point at any patch and see its attention, similarity and norm by layer.

    The page is one file of at most 15 MB. It needs no server and no network: open it, or send it. Where attention of
    all heads would be too much, it is reduced, and the page says so.

    Example: outliers view photo.jpg --classes "cat, dog, grass" --method clip,sc-clip --out page.html
    """
    model = backbone_of(backbone, device, precision, positions)
    console = Console()
    tell_note(model)
    named = classes is not None or classes_file is not None
    if not named and model.spec == "pocket":
        from segment.datasets.shapes import NAMES

        classes, named = ", ".join(NAMES), True
    if method is not None and not named:
        raise ValueError(f"`--method {method}` draws label maps, which need names: --classes 'cat, dog, grass'.")
    text = words_of(model, classes, classes_file, background, templates, rows) if named else None
    reasons = view_page(
        model,
        images,
        out,
        detectors=None if detectors is None else split_specs(detectors),
        purifier=purifier,
        purified_by=purified_by,
        methods=split_specs(method or METHODS),
        text=text,
        windows=windows,
        layers=layers_of(layers),
        heads=heads,
        size=size,
        strict=strict,
    )
    tell_left_out(reasons)
    megabytes = out.stat().st_size / 1e6
    console.print(f"page: {out} ({megabytes:.1f} MB)", markup=False, highlight=False, soft_wrap=True)
